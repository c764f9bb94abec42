package main_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/e2e"
	"github.com/wxcourier/wxcourier/internal/heartbeat"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/sandbox"
	"github.com/wxcourier/wxcourier/tasks"
)

const newMiniSecret = "mini-secret-after-a-reset" //nolint:gosec // the sandbox's

// reloaded is a deployment whose configuration changes: two workers and a gateway.
type reloaded struct {
	*world
	rdb       redis.UniversalClient
	processes []*exec.Cmd
	outputs   []*e2e.Output // of the processes
	appsDir   string
}

// reloadWithin bounds the wait for a configuration to be taken over.
const reloadWithin = time.Minute

func newReloaded(t *testing.T) *reloaded {
	w := &world{t: t, redis: redistest.Start(t)}
	w.wx = sandbox.New(sandbox.Options{
		Apps: map[string]string{mini: miniSecret, official: officSecret}, Latency: 5 * time.Millisecond, NoLimits: true, KeepCalls: 1_000_000,
	})
	url, stop := w.wx.Start()
	t.Cleanup(stop)
	w.url, w.config = url, filepath.Join(t.TempDir(), "wxcourier.yaml")
	r := &reloaded{world: w, rdb: w.redis.Client(t), appsDir: filepath.Join(filepath.Dir(w.config), "apps.d")}
	must(t, os.Mkdir(r.appsDir, 0o700))
	return r
}

// write replaces the main file. app is the entry of mini, "" for none. With this margin a call may
// arrive 0.4 s later than planned, as on a machine with much load, and no second exceeds the limit.
func (r *reloaded) write(app string) {
	r.t.Helper()
	text := fmt.Sprintf(`
redis: {addrs: [%q]}
wechat: {base_url: %q, timeout: 10s, attempt_timeout: 15s}
pace: {margin: 0.3}
apps_dir: apps.d
`, r.redis.Addr(), r.url)
	if app != "" {
		text += "apps:\n  - " + app + "\n"
	}
	must(r.t, os.WriteFile(r.config, []byte(text), 0o600))
}

func miniWith(secret string, perSecond int) string {
	return fmt.Sprintf("{id: %s, secret: %s, limits: {\"send:custom\": {per_second: %d}}}", mini, secret, perSecond)
}

// run starts a process, whose output is also kept apart.
func (r *reloaded) run(args ...string) {
	r.t.Helper()
	path, err := e2e.Binary()
	must(r.t, err)
	out := &e2e.Output{}
	cmd := exec.CommandContext(context.Background(), path, append([]string{args[0], "--config", r.config}, args[1:]...)...) //nolint:gosec // the test's own arguments
	cmd.Stdout, cmd.Stderr = out, out
	must(r.t, cmd.Start())
	r.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_, _ = r.Write([]byte(out.String()))
		if r.t.Failed() {
			r.t.Logf("%v:\n%s", args, out.String())
		}
	})
	r.processes, r.outputs = append(r.processes, cmd), append(r.outputs, out)
}

// logged waits until each process has logged a text n times.
func (r *reloaded) logged(text string, n int) {
	r.t.Helper()
	for i, out := range r.outputs {
		redistest.Until(r.t, reloadWithin, fmt.Sprintf("process %d logs %q", i, text), func() bool { return strings.Count(out.String(), text) >= n })
	}
}

// inUse waits until both workers use a configuration with as many apps and with none of the hashes
// before, and returns its hash.
func (r *reloaded) inUse(apps int, before ...string) (hash string) {
	r.t.Helper()
	redistest.Until(r.t, reloadWithin, fmt.Sprintf("both replicas use a new configuration with %d apps", apps), func() bool {
		replicas, err := heartbeat.List(r.t.Context(), r.rdb)
		must(r.t, err)
		// The gateway's configuration has a hash too; here the workers count.
		replicas = slices.DeleteFunc(replicas, func(o heartbeat.Replica) bool { return o.Kind != heartbeat.Worker })
		if len(replicas) != 2 || replicas[0].Configuration == nil || replicas[1].Configuration == nil {
			return false
		}
		hash = replicas[0].Configuration.Hash
		return replicas[1].Configuration.Hash == hash && !slices.Contains(before, hash) && replicas[0].Apps == apps && replicas[1].Apps == apps
	})
	return hash
}

// submit enqueues n messages, each to a person of its own.
func (r *reloaded) submit(app, name string, n int) {
	r.t.Helper()
	envelopes := make([]tasks.Envelope, n)
	for i := range envelopes {
		envelopes[i] = tasks.Envelope{
			App: app, Type: tasks.TypeCustom, ID: fmt.Sprintf("%s-%d", name, i),
			Body: json.RawMessage(fmt.Sprintf(`{"touser":"%s-%d","msgtype":"text","text":{"content":"%s-%d"}}`, name, i, name, i)),
		}
	}
	for _, result := range tasks.NewClient(r.rdb).SubmitMany(r.t.Context(), envelopes) {
		must(r.t, result.Err)
	}
}

func (r *reloaded) delivered(app string) int64 {
	return int64(r.wx.Count(sandbox.Filter{App: app, Path: "/cgi-bin/message/custom/send", Delivered: true}))
}

// flows waits until n more messages of mini were delivered.
func (r *reloaded) flows(n int64) {
	r.t.Helper()
	from := r.delivered(mini)
	redistest.Until(r.t, reloadWithin, fmt.Sprintf("%d more messages", n), func() bool { return r.delivered(mini) >= from+n })
}

// keeps checks that no call of mini after a time exceeds a limit per second, together with the
// calls in the second before it.
func (r *reloaded) keeps(limit int, after time.Time) {
	r.t.Helper()
	calls := r.wx.Calls(sandbox.Filter{App: mini, Path: "/cgi-bin/message/custom/send"})
	slices.SortFunc(calls, func(a, b sandbox.Call) int { return a.At.Compare(b.At) })
	first, checked := 0, 0
	for i, c := range calls {
		for c.At.Sub(calls[first].At) >= time.Second {
			first++
		}
		if c.At.Before(after) {
			continue
		}
		checked++
		if n := i - first + 1; n > limit {
			r.t.Errorf("call %d, %v after the take-over, is the %d. within a second; the limit is %d", i, c.At.Sub(after), n, limit)
			return
		}
	}
	if checked < limit {
		r.t.Errorf("only %d calls after the take-over", checked)
	}
}

// TestAppsComeAndGo: under load an app is added, the limit of another is lowered, its secret
// changes, and it is removed and added again, while two workers and a gateway run. No call exceeds
// the limit in force, no task is lost and none is sent twice.
func TestAppsComeAndGo(t *testing.T) {
	t.Parallel()
	const load, others, low = 1500, 40, 30
	r := newReloaded(t)
	r.write(miniWith(miniSecret, 150))
	r.submit(mini, "mini", load)
	r.submit(official, "official", others)
	r.run("worker")
	r.run("worker")
	first := r.inUse(1)
	r.run("gateway", "--listen", "127.0.0.1:0")
	redistest.Until(t, reloadWithin, "the gateway listens", func() bool { return strings.Contains(r.outputs[2].String(), "listening") })
	r.flows(100)

	// A file that is written in two steps: the first half is no app.
	added := filepath.Join(r.appsDir, "official.yaml")
	must(t, os.WriteFile(added, []byte("id: "+official+"\n"), 0o600))
	r.logged("apps.d/official.yaml: secret: required", 1)
	must(t, os.WriteFile(added, []byte("id: "+official+"\nsecret: "+officSecret+"\n"), 0o600))
	second := r.inUse(2, first)
	r.logged("app added", 1)
	redistest.Until(t, reloadWithin, "the new app's messages", func() bool { return r.delivered(official) == others })

	r.write(miniWith(miniSecret, low))
	third := r.inUse(2, first, second)
	lowered := time.Now()
	r.logged("keys=[limits.send:custom.per_second]", 1)
	r.flows(2 * low)
	// A request that was written before may arrive later, on a machine with much load. Nothing else is
	// sent in the first second.
	r.keeps(low, lowered.Add(900*time.Millisecond))

	r.write("{id: " + mini + ", secret: " + miniSecret + ", limits: {\"send:custom\": {per_second: fast}}, hourz: {}}")
	r.logged("refused; the one in use stays", 2)
	r.logged("hourz: unknown key; did you mean", 1)
	r.logged("is not a whole number", 1)
	r.refusalIsShown(third)
	r.flows(low)

	// The secret is reset, and WeChat no longer takes the token: the app is held until the new
	// secret is configured.
	r.wx.SetSecret(mini, newMiniSecret)
	r.wx.Revoke(mini)
	redistest.Until(t, reloadWithin, "the app is held", func() bool {
		return strings.Contains(r.outputs[0].String()+r.outputs[1].String(), "reason=app_config")
	})
	r.write(miniWith(newMiniSecret, low))
	fourth := r.inUse(2, first, second, third)
	r.flows(low)

	r.write("")
	must(t, r.processes[0].Process.Signal(syscall.SIGHUP))
	fifth := r.inUse(1, fourth)
	r.logged("app removed", 1)
	redistest.Until(t, reloadWithin, "a signal is logged", func() bool { return strings.Contains(r.outputs[0].String(), "at a signal") })
	r.waitingAsOrphans()

	r.write(miniWith(newMiniSecret, 1000))
	r.inUse(2, fifth)
	redistest.Until(t, 2*reloadWithin, "all messages", func() bool { return r.delivered(mini) == load })
	r.ended(load, others)
}

// refusalIsShown checks what status says while a configuration is refused.
func (r *reloaded) refusalIsShown(hash string) {
	r.t.Helper()
	redistest.Until(r.t, reloadWithin, "both replicas report the refusal", func() bool {
		replicas, err := heartbeat.List(r.t.Context(), r.rdb)
		must(r.t, err)
		// The gateway's configuration has a hash too; here the workers count.
		replicas = slices.DeleteFunc(replicas, func(o heartbeat.Replica) bool { return o.Kind != heartbeat.Worker })
		return !slices.ContainsFunc(replicas, func(h heartbeat.Replica) bool {
			return h.Configuration.Refused.IsZero() || h.Configuration.Hash != hash
		})
	})
}

// waitingAsOrphans checks that the tasks of mini, which was removed, wait.
func (r *reloaded) waitingAsOrphans() {
	r.t.Helper()
	var last int64 = -1
	redistest.Until(r.t, reloadWithin, "the calls under way end", func() bool {
		before := last
		last = r.delivered(mini)
		return before == last && len(r.rdb.Keys(r.t.Context(), "asynq:{"+mini+":send:custom}:active").Val()) == 0
	})
	var state struct {
		Orphans []struct {
			App     string `json:"app"`
			Waiting int64  `json:"waiting"`
		} `json:"orphans"`
	}
	must(r.t, json.Unmarshal([]byte(r.exec("status", "--json")), &state))
	if len(state.Orphans) != 1 || state.Orphans[0].App != mini || state.Orphans[0].Waiting == 0 {
		r.t.Errorf("orphans: %+v", state.Orphans)
	}
	if now := r.delivered(mini); now != last {
		r.t.Errorf("%d messages of an app that was removed", now-last)
	}
}

// ended checks the outcomes, and that all processes still run and printed no secret.
func (r *reloaded) ended(load, others int64) {
	r.t.Helper()
	for app, n := range map[string]int64{mini: load, official: others} {
		stream := "wxcourier:{" + app + "}:results"
		redistest.Until(r.t, reloadWithin, "all results of "+app, func() bool { return r.rdb.XLen(r.t.Context(), stream).Val() >= n })
		entries, err := r.rdb.XRange(r.t.Context(), stream, "-", "+").Result()
		must(r.t, err)
		ids := make(map[string]bool)
		for _, e := range entries {
			var result tasks.Result
			text, _ := e.Values["result"].(string)
			must(r.t, json.Unmarshal([]byte(text), &result))
			if ids[result.ID] || result.Outcome != tasks.OutcomeAccepted {
				r.t.Errorf("%+v (seen before: %v)", result, ids[result.ID])
			}
			ids[result.ID] = true
		}
		if int64(len(ids)) != n || r.delivered(app) != n {
			r.t.Errorf("%s: %d results, %d delivered; want %d", app, len(ids), r.delivered(app), n)
		}
	}
	if twice := r.wx.Duplicates(); len(twice) > 0 {
		r.t.Errorf("sent twice: %+v", twice)
	}
	for i, out := range r.outputs {
		if err := r.processes[i].Process.Signal(syscall.Signal(0)); err != nil {
			r.t.Errorf("process %d: %v", i, err)
		}
		for _, secret := range []string{miniSecret, newMiniSecret, officSecret} {
			if strings.Contains(out.String(), secret) {
				r.t.Errorf("process %d printed a secret", i)
			}
		}
	}
}
