package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/hold"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/sandbox"
	"github.com/wxcourier/wxcourier/tasks"
)

const quotaPath = "/cgi-bin/openapi/quota/get"

// spend makes our own count of a type the given one, long ago.
func spend(t *testing.T, rdb redis.UniversalClient, typ string, used int64) {
	t.Helper()
	limiter := ratelimit.NewLimiter(rdb, ratelimit.DefaultConfig(), nil)
	if err := limiter.Learn(t.Context(), testApp, typ, ratelimit.Learned{UsedToday: used}); err != nil {
		t.Fatal(err)
	}
}

// TestReleaseOfASpentLimit: release asks WeChat about a limit that is spent by our own count, also
// while no worker runs. It says why it cannot help, or believes the count that went down.
func TestReleaseOfASpentLimit(t *testing.T) {
	t.Chdir(t.TempDir())
	server := redistest.Start(t)
	env, wx := newEnvOn(t, server.Addr())
	rdb := server.Client(t)
	if got := command(t, env, line("a", openid), "enqueue", "-"); got.status != statusDone {
		t.Fatalf("%+v", got)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(wx.SetQuota(testApp, "/cgi-bin/message/subscribe/send", 10_000_000))
	spend(t, rdb, tasks.TypeSubscribe, 10_000_000)
	mentions(t, "status", command(t, env, "", "status").stdout,
		"our count", "1 task waits: 10,000,000 of 10,000,000 calls of the day are used, by our own count, until ",
		"wxcourier release --app "+testApp+" --type send:subscribe")

	release := func() string {
		t.Helper()
		got := command(t, env, "", "release", "--app", testApp, "--type", "send:subscribe")
		if got.status != statusDone {
			t.Errorf("%+v", got)
		}
		return got.stdout
	}
	mentions(t, "release", release(), "Nothing was held", "WeChat counts 10,000,000 of 10,000,000 calls today; our count is 10,000,000", "releasing cannot end that")
	if got := rdb.Get(t.Context(), paused).Val(); got != "wxcourier:send:subscribe" {
		t.Errorf("paused by %q", got)
	}
	if _, err := wx.AddFault(sandbox.Fault{ErrCode: 76022, Path: quotaPath, Count: 1}); err != nil {
		t.Fatal(err)
	}
	mentions(t, "a refused query", release(), "WeChat did not tell (", "76022", "our count is 10,000,000")

	// The quota is cleared at WeChat, and a worker's hold for it is in force too.
	must(wx.SetQuota(testApp, "/cgi-bin/message/subscribe/send", 0))
	h := hold.Hold{App: testApp, Scope: tasks.TypeSubscribe, Reason: "quota_day", Code: 45009, Until: time.Now().Add(time.Hour), By: "worker r1"}
	_, err := hold.NewStore(rdb).Set(t.Context(), h)
	must(err)
	mentions(t, "status", command(t, env, "", "status").stdout, "WeChat refused a call for the quota of the day (45009), until ")
	mentions(t, "release", release(), "Released: ", "WeChat counts 0 of 10,000,000 calls today; our count is 0 now, and was 10,000,000")
	if got := rdb.Get(t.Context(), paused).Val(); got != "" {
		t.Errorf("still paused by %q", got)
	}
	if text := command(t, env, "", "status").stdout; strings.Contains(text, "Holds:") {
		t.Errorf("status:\n%s", text)
	}
	if n := wx.Count(sandbox.Filter{Path: quotaPath}); n != 3 {
		t.Errorf("%d queries", n)
	}
	mentions(t, "nothing to release", release(), "Nothing was held")
	if n := wx.Count(sandbox.Filter{Path: quotaPath}); n != 3 {
		t.Error("WeChat was asked although no quota is spent")
	}
}

// TestStatusRefresh: status --refresh asks WeChat and believes the count that went down, for a
// limit that two types share when WeChat counts both.
func TestStatusRefresh(t *testing.T) {
	t.Chdir(t.TempDir())
	mini, rdb := redistest.Mini(t)
	env, wx := newEnvOn(t, mini.Addr())
	spend(t, rdb, tasks.TypeScheme, 500_000)
	spend(t, rdb, "links", 500_000)
	if err := wx.SetQuota(testApp, "/wxa/generatescheme", 20); err != nil {
		t.Fatal(err)
	}
	got := command(t, env, "", "status", "--refresh", "--json")
	var seen overview
	if err := json.Unmarshal([]byte(got.stdout), &seen); err != nil || got.status != statusDone {
		t.Fatalf("%+v, %v", got, err)
	}
	used := map[string]int64{}
	for _, l := range seen.Lanes {
		for _, u := range l.Windows {
			if u.Window == ratelimit.PerDay {
				used[u.Name] = u.Used
			}
		}
	}
	if len(seen.Quotas) != 2 || used[tasks.TypeScheme] != 21 || used["links"] != 41 || len(seen.Holds) != 0 {
		t.Errorf("%d queries, used %v, holds %+v", len(seen.Quotas), used, seen.Holds)
	}
	mentions(t, "status", command(t, env, "", "status", "--refresh").stdout, "Quotas, as WeChat counts:", "scheme:generate: WeChat counts 20 of 500,000 calls today")
}

// TestQuotaClear: the counts are cleared at WeChat only after a confirmation, and our own then
// follow.
func TestQuotaClear(t *testing.T) {
	t.Chdir(t.TempDir())
	mini, rdb := redistest.Mini(t)
	env, wx := newEnvOn(t, mini.Addr())
	const path = "/cgi-bin/message/subscribe/send"
	if err := wx.SetQuota(testApp, path, 10_000_000); err != nil {
		t.Fatal(err)
	}
	spend(t, rdb, tasks.TypeSubscribe, 10_000_000)
	clears := func() int { return wx.Count(sandbox.Filter{Path: "/cgi-bin/clear_quota"}) }
	for _, answer := range []string{"", "yes\n", testApp[:10] + "\n"} {
		got := command(t, env, answer, "quota", "--app", testApp, "--clear")
		if got.status != statusUsage || clears() != 0 {
			t.Errorf("answer %q: %+v", answer, got)
		}
		mentions(t, "quota --clear", got.stderr, "ten times a month", "not cleared")
	}
	got := command(t, env, testApp+"\n", "quota", "--app", testApp, "--clear")
	if got.status != statusDone || clears() != 1 {
		t.Errorf("%+v", got)
	}
	mentions(t, "quota --clear", got.stdout, "WeChat counts 0 of 10,000,000 calls today; our count is 0 now, and was 10,000,000")
	again := command(t, env, "", "quota", "--app", testApp)
	if again.status != statusDone || !strings.Contains(again.stdout, "Nothing was used today") {
		t.Errorf("%+v", again)
	}
	for range 9 {
		if got := command(t, env, "", "quota", "--app", testApp, "--clear", "--yes", "--json"); got.status != statusDone {
			t.Fatalf("%+v", got)
		}
	}
	over := command(t, env, "", "quota", "--app", testApp, "--clear", "--yes")
	if over.status != statusFailed {
		t.Errorf("%+v", over)
	}
	mentions(t, "the eleventh time", over.stderr, "not cleared", "48006")
	if got := command(t, env, "", "quota", "--app", testApp, "--type", "send:nothing"); got.status != statusUsage {
		t.Errorf("%+v", got)
	}
	one := command(t, env, "", "quota", "--app", testApp, "--type", tasks.TypeTemplate, "--json")
	mentions(t, "quota --json", one.stdout, `"type":"send:template"`, `"wechat_limit":100000`, `"count_after":0`)
}
