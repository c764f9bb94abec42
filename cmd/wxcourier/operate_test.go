package main

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/hold"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/sandbox"
	"github.com/wxcourier/wxcourier/tasks"
)

func TestFromEnqueueToResults(t *testing.T) {
	t.Chdir(t.TempDir())
	env, wx := newEnv(t)
	text := line("a", openid) + line("b", "unsubscribed-"+openid) + line("a", openid) + "nonsense\n" +
		strings.Replace(line("c", openid), `"body"`, `"process_at":"2099-01-01T00:00:00Z","body"`, 1)

	got := command(t, env, text, "enqueue", "--json", "-")
	if got.status != statusFailed || strings.Count(got.stdout, "\n") != 5 {
		t.Errorf("enqueue: %+v", got)
	}
	mentions(t, "the answers", got.stdout, `"line":3,"app":"`+testApp+`","id":"a","queue":"`+testApp+`:send:subscribe","already":true}`, `{"line":4,"error":"not valid JSON`)
	mentions(t, "enqueue", got.stderr, "stdin:4: not valid JSON", "1 line could not be enqueued")
	again := command(t, env, text, "enqueue", "-")
	mentions(t, "enqueue again", again.stderr, "stdin:3: already enqueued")
	if again.stdout != "0 tasks enqueued, 4 tasks already enqueued, 1 line skipped as invalid\n" {
		t.Errorf("enqueued again: %q", again.stdout)
	}
	status := command(t, env, "", "status")
	if status.status != statusDone || !regexp.MustCompile(testApp+` +send:subscribe +2 +0 +1 +0 +0 +0 +-`).MatchString(status.stdout) {
		t.Errorf("status: %+v", status)
	}

	_, stderr, stop := background(t, env, "worker")
	redistest.Until(t, 20*time.Second, "both tasks ended", func() bool {
		return strings.Count(command(t, env, "", "results", "--json").stdout, "\n") == 2
	})
	if code := stop(); code != statusDone {
		t.Errorf("worker: status %d\n%s", code, stderr)
	}
	if n := wx.Count(sandbox.Filter{Path: "/cgi-bin/message/subscribe/send"}); n != 2 {
		t.Errorf("%d calls", n)
	}
	checkResults(t, env)
}

// checkResults checks the output formats and filters of results; a was accepted, b refused.
func checkResults(t *testing.T, env []string) {
	t.Helper()
	table := command(t, env, "", "results")
	mentions(t, "the table", table.stdout, "FINISHED", "accepted", "refused", "43101", "send:subscribe")
	for args, want := range map[string]int{
		"--outcome refused": 1, "--outcome accepted,refused": 2, "--errcode 43101": 1, "--batch none": 0,
		"--app wxfedcba9876543210": 0, "--type send:template": 0, "--since 1h": 2, "--since 2099-01-01T00:00:00Z": 0,
	} {
		got := command(t, env, "", append([]string{"results", "--json"}, strings.Fields(args)...)...)
		if got.status != statusDone || strings.Count(got.stdout, "\n") != want {
			t.Errorf("results %s: %+v", args, got)
		}
	}
	rows, err := csv.NewReader(strings.NewReader(command(t, env, "", "results", "--csv").stdout)).ReadAll()
	if err != nil || len(rows) != 3 || rows[0][0] != "finished_at" || len(rows[1]) != len(rows[0]) {
		t.Errorf("CSV: %v, %v", rows, err)
	}
}

func TestResultsFollow(t *testing.T) {
	t.Chdir(t.TempDir())
	env, _ := newEnv(t)
	stdout, stderr, stop := background(t, env, "results", "--follow", "--json")
	if got := command(t, env, line("a", openid), "run", "-"); got.status != statusDone {
		t.Fatalf("%+v", got)
	}
	redistest.Until(t, 10*time.Second, "the result", func() bool { return strings.Contains(stdout.String(), `"id":"a"`) })
	if code := stop(); code != statusDone {
		t.Errorf("status %d\n%s", code, stderr)
	}
}

func TestStatusAsJSONWithOrphans(t *testing.T) {
	t.Chdir(t.TempDir())
	env, _ := newEnv(t)
	other := strings.Replace(line("b", openid), testApp, "wxfedcba9876543210", 1)
	if got := command(t, env, line("a", openid)+other, "enqueue", "-"); got.status != statusDone {
		t.Fatalf("%+v", got)
	} else {
		mentions(t, "enqueue", got.stderr, "wxfedcba9876543210 is not configured here")
	}
	got := command(t, env, "", "status", "--json")
	var seen overview
	if err := json.Unmarshal([]byte(got.stdout), &seen); err != nil {
		t.Fatal(err)
	}
	if len(seen.Lanes) != 1 || seen.Lanes[0].Waiting != 1 || len(seen.Orphans) != 1 || seen.Orphans[0].App != "wxfedcba9876543210" {
		t.Errorf("%+v", seen)
	}
	mentions(t, "status", command(t, env, "", "status").stdout, "wxfedcba9876543210 send:subscribe: 1 task")
	mentions(t, "check", command(t, env, "", "check").stdout, "warn  queue wxfedcba9876543210:send:subscribe: 1 task")
}

func TestCheck(t *testing.T) {
	t.Chdir(t.TempDir())
	server := redistest.Start(t, "--appendonly", "yes")
	env, wx := newEnvOn(t, server.Addr())
	good := command(t, env, "", "check")
	if good.status != statusDone {
		t.Errorf("%+v", good)
	}
	mentions(t, "check", good.stdout, "ok    configuration", "ok    redis: "+server.Addr()+" is Redis ", "ok    redis scripts",
		"ok    redis maxmemory-policy: noeviction", "ok    redis appendonly: yes", "ok    redis appendfsync: everysec", "ok    app "+testApp, "warn  wechat.base_url")

	wx.Reset()
	if err := server.Client(t).FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	wx.BlockIP(testApp, true)
	bad := command(t, env, "", "check")
	if bad.status != statusFailed {
		t.Errorf("%+v", bad)
	}
	mentions(t, "check", bad.stdout, "FAIL  app "+testApp, "40164", "IP whitelist")
	mentions(t, "the message", bad.stderr, "1 check failed")
}

// TestCheckAsksWeChat: a token or a failure in Redis does not decide, and the token in use stays.
func TestCheckAsksWeChat(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		t.Chdir(t.TempDir())
		env, wx := newEnvOn(t, redisClient(t, rdb).Options().Addr)
		key := "WXCOURIER_APPS_" + strings.ToUpper(testApp) + "_"
		check := func(level, text string, credentials ...string) {
			t.Helper()
			got := command(t, slices.Concat(env[:2], credentials), "", "check")
			if (got.status == statusFailed) != (level == "FAIL") {
				t.Errorf("status %d", got.status)
			}
			mentions(t, "check", got.stdout, level+"  app "+testApp+": "+text)
		}
		right, wrong := key+"SECRET="+secret, key+"SECRET=not-"+secret
		if got := command(t, env, line("a", openid), "run", "-"); got.status != statusDone { // a good token in Redis
			t.Fatal(got)
		}
		check("FAIL", "no token for app "+testApp, wrong)
		check("ok  ", "WeChat gave a token for its credentials", right)
		wx.SetSecret(testApp, "changed")
		check("FAIL", "no token for app "+testApp, right)
		wx.SetSecret(testApp, secret)
		check("ok  ", "WeChat gave a token for its credentials", right)
		if n := wx.TokensIssued(testApp, sandbox.Stable); n != 1 {
			t.Errorf("%d stable tokens were issued, want the first only", n)
		}

		classic := key + "TOKEN_MODE=classic"
		check("warn", "its credentials were not checked: a new classic token would end the one in use", right, classic)
		if n := wx.TokensIssued(testApp, sandbox.Classic); n != 0 {
			t.Errorf("%d classic tokens were issued without --force", n)
		}
		got := command(t, append(slices.Clip(env), classic), "", "check", "--force")
		mentions(t, "check --force", got.stdout, "ok    app "+testApp+": WeChat gave a new token")
		stored := rdb.HGet(t.Context(), "wxcourier:{"+testApp+"}:token", "value").Val()
		if all := wx.Tokens(testApp); all[len(all)-1].Family != sandbox.Classic || all[len(all)-1].Value != stored {
			t.Error("the new classic token is not stored for the workers")
		}

		service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Query().Get("app") != testApp {
				w.WriteHeader(http.StatusNotFound)
				return
			}
			_, _ = io.WriteString(w, `{"access_token":"from-the-service","expires_in":7200}`)
		}))
		external := []string{key + "TOKEN_MODE=external", key + "TOKEN_URL=" + service.URL}
		check("ok  ", "its token service gave a token", external...)
		service.Close()
		check("FAIL", "no token for app "+testApp, external...)
	})
}

// TestCheckFailsWhileAnAppIsHeld: a held app is a failure with its reason and its remedy; a held
// type is a warning.
func TestCheckFailsWhileAnAppIsHeld(t *testing.T) {
	t.Chdir(t.TempDir())
	mini, rdb := redistest.Mini(t)
	env, _ := newEnvOn(t, mini.Addr())
	holds := hold.NewStore(rdb)
	set := func(scope, reason string, code int) {
		t.Helper()
		h := hold.Hold{App: testApp, Scope: scope, Reason: reason, Code: code, By: hold.ReplicaPrefix + "r1"}
		if _, _, err := holds.SetEnding(t.Context(), h, hold.End{After: time.Hour}); err != nil {
			t.Fatal(err)
		}
	}
	set(tasks.TypeCustom, "quota_day", 45009)
	got := command(t, env, "", "check")
	if got.status != statusDone {
		t.Errorf("a held type: %+v", got)
	}
	mentions(t, "check", got.stdout, "warn  app "+testApp+": held: "+testApp+" send:custom: quota day (errcode 45009), until 2")
	set(hold.WholeApp, "app_config", 40125)
	if got = command(t, env, "", "check"); got.status != statusFailed {
		t.Errorf("a held app: %+v", got)
	}
	mentions(t, "check", got.stdout, "ok    app "+testApp+": WeChat gave a token", "FAIL  app "+testApp+": held: "+testApp+" all types: app config (errcode 40125), next probe 2",
		"the app secret is wrong or was reset", "wxcourier release --app "+testApp)
	mentions(t, "status", command(t, env, "", "status").stdout, "next probe 2", testApp+" all types: the app secret is wrong or was reset")
}

func TestCheckWithoutRedis(t *testing.T) {
	t.Chdir(t.TempDir())
	env, _ := newEnv(t)
	wrong := append(env[1:2:2], "WXCOURIER_APPS_"+strings.ToUpper(testApp)+"_SECRET=not-"+secret)
	got := command(t, wrong, "", "check")
	if got.status != statusFailed {
		t.Errorf("%+v", got)
	}
	mentions(t, "check", got.stdout, "warn  redis: not configured", "FAIL  app "+testApp, "secret")
	classic := command(t, append(wrong, "WXCOURIER_APPS_"+strings.ToUpper(testApp)+"_TOKEN_MODE=classic"), "", "check")
	if classic.status != statusDone {
		t.Errorf("%+v", classic)
	}
	mentions(t, "check", classic.stdout, "warn  app "+testApp+": its credentials were not checked")
}

func TestWorkerRefusesRedisWithEviction(t *testing.T) {
	t.Chdir(t.TempDir())
	server := redistest.Start(t, "--maxmemory-policy", "allkeys-lru")
	env, _ := newEnvOn(t, server.Addr())
	got := command(t, env, "", "worker")
	if got.status != statusFailed {
		t.Errorf("%+v", got)
	}
	mentions(t, "the message", got.stderr, "allkeys-lru", "noeviction", "redis.allow_eviction")
	_, stderr, stop := background(t, append(env, "WXCOURIER_REDIS_ALLOW_EVICTION=true"), "worker")
	redistest.Until(t, 10*time.Second, "the worker starts", func() bool { return strings.Contains(stderr.String(), "worker started") })
	if code := stop(); code != statusDone {
		t.Errorf("status %d\n%s", code, stderr)
	}
}

func TestWorkerRefusesClusterWithEviction(t *testing.T) {
	t.Chdir(t.TempDir())
	nodes := redistest.StartMasters(t)
	if err := nodes[2].Client(t).ConfigSet(t.Context(), "maxmemory-policy", "volatile-ttl").Err(); err != nil {
		t.Fatal(err)
	}
	env, _ := newEnvOn(t, nodes[0].Addr()+","+nodes[1].Addr())
	got := command(t, env, "", "worker")
	if got.status != statusFailed {
		t.Errorf("%+v", got)
	}
	mentions(t, "the message", got.stderr, "noeviction and volatile-ttl", "redis.allow_eviction")
}

func TestWorkerListens(t *testing.T) {
	t.Chdir(t.TempDir())
	env, _ := newEnv(t)
	_, stderr, stop := background(t, env, "worker", "--listen", "127.0.0.1:0", "--log-format", "json")
	var addr string
	redistest.Until(t, 10*time.Second, "it listens", func() bool {
		found := regexp.MustCompile(`"addr":"([^"]+)"`).FindStringSubmatch(stderr.String())
		if found != nil {
			addr = found[1]
		}
		return found != nil
	})
	redistest.Until(t, 10*time.Second, "it is ready", func() bool { status, _ := get(t, "http://"+addr+"/readyz"); return status == http.StatusOK })
	if status, _ := get(t, "http://"+addr+"/healthz"); status != http.StatusOK {
		t.Errorf("healthz: %d", status)
	}
	if got := command(t, nil, "", "healthcheck", "http://"+addr+"/readyz"); got.status != statusDone {
		t.Errorf("healthcheck: %+v", got)
	}
	if got := command(t, nil, "", "healthcheck", "http://"+addr+"/nothing"); got.status != statusFailed || !strings.Contains(got.stderr, "404") {
		t.Errorf("healthcheck of a missing page: %+v", got)
	}
	_, metrics := get(t, "http://"+addr+"/metrics")
	mentions(t, "the metrics", metrics, "wxcourier_build_info", "go_goroutines", "process_")
	if code := stop(); code != statusDone {
		t.Errorf("status %d\n%s", code, stderr)
	}
	if got := command(t, env, "", "worker", "--listen", "256.0.0.1:1"); got.status != statusFailed {
		t.Errorf("%+v", got)
	}
}

func TestDev(t *testing.T) {
	t.Chdir(t.TempDir())
	_, stderr, stop := background(t, nil, "dev", "--listen", "127.0.0.1:0", "--rate", "50")
	address := func(name string) string {
		var found []string
		redistest.Until(t, 10*time.Second, name+" is announced", func() bool {
			found = regexp.MustCompile(name + ` +(\S+)`).FindStringSubmatch(stderr.String())
			return found != nil
		})
		return found[1]
	}
	url, wx := address("Console"), address("WeChat")
	_, page := get(t, url+"start")
	mentions(t, "the first steps", page, "wxcourier dev", wx, "wx00000000000000d1")
	if status, monitor := get(t, url+"monitor"); status != http.StatusOK || !strings.Contains(monitor, "Asynq") {
		t.Errorf("monitor: %d\n%.200s", status, monitor)
	}
	redistest.Until(t, 20*time.Second, "queues in the asynq web UI", func() bool {
		_, queues := get(t, url+"monitor/api/queues")
		return strings.Contains(queues, "send:subscribe")
	})
	redistest.Until(t, 20*time.Second, "outcomes", func() bool {
		_, metrics := get(t, url+"metrics")
		return strings.Contains(metrics, `outcome="accepted"`) && strings.Contains(metrics, `outcome="refused"`)
	})
	rendered(t, url+"start", "wxcourier dev")
	if _, console := get(t, url); !strings.Contains(console, "wx00000000000000d1") { // package browsertest renders it
		t.Errorf("the console does not show the app:\n%.2000s", console)
	}
	rendered(t, url+"monitor", "send:subscribe")
	env := []string{"WXCOURIER_REDIS_ADDRS=" + address("Redis")}
	if got := command(t, env, "", "results"); got.status != statusDone || !strings.Contains(got.stdout, "wx00000000000000d1") {
		t.Errorf("results: %+v", got)
	}
	if code := stop(); code != statusDone {
		t.Errorf("status %d\n%s", code, stderr)
	}
}

func TestSandboxCommand(t *testing.T) {
	t.Chdir(t.TempDir())
	stdout, stderr, stop := background(t, nil, "sandbox", "--listen", "127.0.0.1:0", "--credits", "1")
	var url string
	redistest.Until(t, 10*time.Second, "it listens", func() bool {
		url = regexp.MustCompile(`http://[0-9.]+:[0-9]+`).FindString(stderr.String())
		return url != ""
	})
	mentions(t, "the message", stderr.String(), "base_url: "+url)
	env := []string{
		"WXCOURIER_WECHAT_BASE_URL=" + url, "WXCOURIER_APPS_" + strings.ToUpper(testApp) + "_SECRET=" + secret,
		"WXCOURIER_REDIS_ADDRS=" + redistest.Start(t).Addr(),
	}
	got := command(t, env, line("a", openid)+line("b", openid), "run", "-")
	outcomes := map[tasks.Outcome]int{}
	for _, r := range got.results(t) {
		outcomes[r.Outcome]++
	}
	if outcomes[tasks.OutcomeAccepted] != 1 || outcomes[tasks.OutcomeRefused] != 1 {
		t.Errorf("with one credit: %v\n%s", outcomes, got.stderr)
	}
	if code := stop(); code != statusDone || stdout.String() != "" {
		t.Errorf("status %d, standard output %q", code, stdout)
	}
}

func get(t *testing.T, url string) (status int, body string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

// rendered checks that a page, with its scripts run in headless Chromium, contains a text.
func rendered(t *testing.T, url, text string) {
	t.Helper()
	if page, ok := inChromium(t, url, "--dump-dom"); ok && !strings.Contains(page, text) {
		t.Errorf("%s, rendered, does not contain %q:\n%.2000s", url, text, page)
	}
}

// inChromium opens a page in headless Chromium, and returns what it prints with the option. It fails
// the test if the page logs an error: an exception, or what the page's policy refuses. ok is false
// where Chromium is not installed.
func inChromium(t *testing.T, url string, options ...string) (output string, ok bool) {
	t.Helper()
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Error("chromium is not installed: CI needs it")
		}
		t.Logf("%s was not rendered: chromium is not installed", url)
		return "", false
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	args := append([]string{
		"--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
		"--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
		"--user-data-dir=" + t.TempDir(), "--virtual-time-budget=8000", "--enable-logging=stderr",
	}, options...)
	var logged strings.Builder
	command := exec.CommandContext(ctx, chromium, append(args, url)...) //nolint:gosec // the test's own arguments
	command.Stderr = &logged
	page, err := command.Output()
	if err != nil {
		t.Errorf("%s in chromium: %v", url, err)
	}
	for line := range strings.Lines(logged.String()) {
		if strings.Contains(line, "CONSOLE") && regexp.MustCompile(`Refused to|Content Security Policy|Uncaught|Failed to load|ERR_`).MatchString(line) {
			t.Errorf("%s in chromium: %s", url, line)
		}
	}
	return string(page), true
}

func redisClient(t *testing.T, rdb redis.UniversalClient) *redis.Client {
	t.Helper()
	client, ok := rdb.(*redis.Client)
	if !ok {
		t.Fatalf("%T", rdb)
	}
	return client
}
