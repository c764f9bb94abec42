package main_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/e2e"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/internal/templates"
	"github.com/wxcourier/wxcourier/sandbox"
	"github.com/wxcourier/wxcourier/tasks"
)

// The keys of the pushes to mini.
const (
	pushToken = "token1234"
	pushAES   = "jWmYm7qr5nMoAUwZRjGtBxmz3KA1tkAj3ykkR6q2B2C"
)

// oneTime is the one-time template of mini.
const oneTime = "T1"

// deployment is a worker and a gateway that receives the pushes of a sandbox. Both can be killed and
// started again; the gateway keeps its addresses.
type deployment struct {
	*testing.T
	wx                *sandbox.Server
	rdb               redis.UniversalClient
	client            *tasks.Client
	config            string
	url               string // of wx
	redisAddr         string
	listen, callbacks string // addresses of the gateway
	worker, gateway   *exec.Cmd
	output            e2e.Output
}

// newDeployment starts a sandbox that pushes to a gateway, and writes the configuration of mini, whose
// further members are given.
func newDeployment(t *testing.T, latency time.Duration, members string) *deployment {
	t.Helper()
	if testing.Short() {
		t.Skip("builds and runs the program")
	}
	server := redistest.Start(t)
	d := &deployment{
		T: t, rdb: server.Client(t), redisAddr: server.Addr(), config: filepath.Join(t.TempDir(), "wxcourier.yaml"),
		listen: freeAddress(t), callbacks: freeAddress(t),
	}
	d.client = tasks.NewClient(d.rdb)
	d.wx = sandbox.New(sandbox.Options{
		Apps: map[string]string{mini: miniSecret}, Latency: latency, NoLimits: true, KeepCalls: 20_000,
		// A gateway that is killed is away for some time: WeChat would try three times, here each push arrives.
		Pushes: sandbox.PushOptions{Interval: 200 * time.Millisecond, Attempts: 1000},
		Callbacks: map[string]sandbox.Callback{
			mini: {URL: "http://" + d.callbacks + "/callback/" + mini, Token: pushToken, AESKey: pushAES, Format: sandbox.FormatJSON},
		},
	})
	t.Cleanup(d.wx.Close)
	must(t, d.wx.SetTemplates(mini, []sandbox.Template{{ID: oneTime, Title: "订单发货通知", Content: "序号:{{number1.DATA}}", Type: sandbox.OneTime}}))
	url, stop := d.wx.Start()
	t.Cleanup(stop)
	d.url = url
	d.configure(members)
	return d
}

// configure replaces the configuration.
func (d *deployment) configure(members string) {
	d.Helper()
	text := fmt.Appendf(nil, `
redis: {addrs: [%q]}
wechat: {base_url: %q}
gateway: {listen: %q, callback_listen: %q, wait: 1s}
apps:
  - {id: %s, secret: %s, callback: {token: %s, aes_key: %s}%s}
`, d.redisAddr, d.url, d.listen, d.callbacks, mini, miniSecret, pushToken, pushAES, members)
	must(d.T, os.WriteFile(d.config+".new", text, 0o600))
	must(d.T, os.Rename(d.config+".new", d.config))
}

// start starts the worker and the gateway.
func (d *deployment) start() {
	d.Helper()
	d.worker, d.gateway = d.command("worker"), d.command("gateway")
}

func (d *deployment) command(name string) *exec.Cmd {
	d.Helper()
	path, err := e2e.Binary()
	must(d.T, err)
	cmd := exec.CommandContext(context.Background(), path, name, "-c", d.config) //nolint:gosec // our own program
	// Variables of the tests are none of the configuration.
	cmd.Env = []string{}
	cmd.Stdout, cmd.Stderr = &d.output, &d.output
	must(d.T, cmd.Start())
	d.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if d.Failed() {
			d.Log(name + ":\n" + d.output.String())
			d.output.Reset()
		}
	})
	return cmd
}

// killBoth kills the worker and the gateway. It returns the ids of the tasks of a queue that the worker
// had in hand: another takes them over a minute later.
func (d *deployment) killBoth(queue string) (inHand []string) {
	d.Helper()
	for _, cmd := range []*exec.Cmd{d.worker, d.gateway} {
		must(d.T, cmd.Process.Kill())
		_ = cmd.Wait()
	}
	// The lease of the gateway on the pushes of the app, as if its time had come.
	must(d.T, d.rdb.Del(d.Context(), "wxcourier:{"+mini+"}:pushes:lease").Err())
	for _, id := range d.rdb.LRange(d.Context(), "asynq:{"+queue+"}:active", 0, -1).Val() {
		inHand = append(inHand, strings.TrimPrefix(id, mini+":"))
	}
	return inHand
}

// exec runs a command to its end, and returns its standard output.
func (d *deployment) exec(args ...string) string {
	d.Helper()
	path, err := e2e.Binary()
	must(d.T, err)
	cmd := exec.CommandContext(d.Context(), path, append(args, "-c", d.config)...) //nolint:gosec // our own program
	var out, problems bytes.Buffer
	cmd.Env = []string{}
	cmd.Stdout, cmd.Stderr = &out, &problems
	if err := cmd.Run(); err != nil {
		d.Fatalf("%v: %v\n%s", args, err, problems.String())
	}
	return out.String()
}

// request sends JSON to the gateway, and decodes the answer; 0 without one.
func (d *deployment) request(method, path, body string, into any) (status int) {
	d.Helper()
	r, err := http.NewRequestWithContext(d.Context(), method, "http://"+d.listen+path, strings.NewReader(body))
	must(d.T, err)
	r.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	must(d.T, err)
	if into != nil {
		_ = json.Unmarshal(text, into) // the status tells
	}
	return response.StatusCode
}

// until waits for a condition. It looks less often than redistest.Until, since most conditions cost several
// calls.
func (d *deployment) until(what string, condition func() bool) {
	d.Helper()
	const within, every = 3 * time.Minute, 20 * time.Millisecond
	for end := time.Now().Add(within); !condition(); time.Sleep(every) {
		if time.Now().After(end) {
			d.Fatalf("not within %v: %s", within, what)
		}
	}
}

// kindsKnown waits until the worker knows the kind of the template.
func (d *deployment) kindsKnown() {
	d.Helper()
	d.until("the templates are known", func() bool {
		registry, err := templates.Read(d.Context(), d.rdb, mini)
		return err == nil && registry != nil && registry.Template(templates.Subscribe, oneTime) != nil
	})
}

// pushed waits until the gateway has handled the pushes.
func (d *deployment) pushed() {
	d.Helper()
	must(d.T, d.wx.WaitPushes(d.Context()))
	d.until("the pushes are handled", func() bool { return d.rdb.XLen(d.Context(), "wxcourier:{"+mini+"}:pushes").Val() == 0 })
}

// popup lets a person answer the dialogue of the mini program.
func (d *deployment) popup(person, status string) {
	d.Helper()
	must(d.T, d.wx.Popup(mini, person, sandbox.Choice{Template: oneTime, Status: status}))
}

// submit enqueues a message to each of some persons, and returns the ids.
func (d *deployment) submit(name string, persons ...string) (ids []string) {
	d.Helper()
	envelopes := make([]tasks.Envelope, len(persons))
	for i, person := range persons {
		ids = append(ids, name+"-"+person)
		envelopes[i] = tasks.Envelope{
			Type: tasks.TypeSubscribe, App: mini, ID: ids[i], Batch: name,
			Body: fmt.Appendf(nil, `{"touser":%q,"template_id":%q,"data":{"number1":{"value":"%d"}}}`, person, oneTime, i),
		}
	}
	for _, r := range d.client.SubmitMany(d.Context(), envelopes) {
		must(d.T, r.Err)
	}
	return ids
}

// results waits until those of some tasks have an outcome that are not left out, and returns their
// results by id.
func (d *deployment) results(ids, without []string) map[string]tasks.Result {
	d.Helper()
	all := make(map[string]tasks.Result, len(ids))
	for _, id := range ids {
		if slices.Contains(without, id) {
			continue
		}
		d.until("the outcome of "+id, func() bool {
			r, err := d.client.Result(d.Context(), mini, id)
			all[id] = r
			return err == nil && r.Outcome != ""
		})
	}
	return all
}

// ended counts the tasks of a batch that have an outcome.
func (d *deployment) ended(batch string) int {
	counts, err := d.client.Batch(d.Context(), mini, batch)
	if err != nil {
		return 0
	}
	return int(counts["done"])
}

// nextSecond waits until WeChat's times, which are in seconds, differ from those before.
func (d *deployment) nextSecond() {
	d.Helper()
	next := time.Now().Truncate(time.Second).Add(time.Second)
	d.until("the next second", func() bool { return time.Now().After(next) })
}
