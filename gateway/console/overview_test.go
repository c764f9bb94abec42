package console

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/calendar"
	"github.com/wxcourier/wxcourier/internal/heartbeat"
	"github.com/wxcourier/wxcourier/internal/hold"
	"github.com/wxcourier/wxcourier/internal/inspect"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/internal/series"
	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/wechat"
)

// show makes a console show readings that were not read.
func show(c *Console, read readings) {
	done := make(chan struct{})
	close(done)
	never := time.Now().Add(24 * time.Hour)
	c.cache.mu.Lock()
	defer c.cache.mu.Unlock()
	c.cache.readings["state"] = &reading{done: done, at: never, value: read.state}
	c.cache.readings["overview"] = &reading{done: done, at: never, value: read}
}

// day returns the windows of a type with a limit a second and one a day.
func day(typ string, used, limit, reserved int64, now time.Time) []ratelimit.Usage {
	return []ratelimit.Usage{
		{Name: typ, Window: ratelimit.PerSecond, Limit: 100, Factor: 1},
		{Name: typ, Window: ratelimit.PerDay, Limit: limit, Used: used, Reserved: reserved, Ends: calendar.EndOfDay(now), Factor: 1},
	}
}

// busyReadings are readings with something of everything, of testApp and otherApp, and of an app that
// is not configured.
func busyReadings(now time.Time) readings {
	from := now.Truncate(time.Minute).Add(-59 * time.Minute)
	read := readings{from: from, ages: map[string]wechat.TokenAge{testApp: {FetchedAt: now.Add(-14 * time.Minute), ExpiresAt: now.Add(106 * time.Minute)}}}
	slowed := day(tasks.TypeSubscribe, 17_400, 20_000, 4000, now)
	slowed[0].Factor = 0.7
	read.state = inspect.State{
		Lanes: []inspect.LaneUsage{
			{Lane: inspect.Lane{App: testApp, Type: tasks.TypeSubscribe, Waiting: 240, Bulk: 12_030, Scheduled: 1204, Retrying: 7, Active: 38}, Windows: slowed},
			{Lane: inspect.Lane{App: testApp, Type: tasks.TypeScheme, Active: 3}, Windows: day("links", 12_000, 500_000, 0, now)},
			{Lane: inspect.Lane{App: testApp, Type: tasks.TypeURLLink, Waiting: 2}, Windows: day("links", 12_000, 500_000, 0, now)},
			{Lane: inspect.Lane{App: otherApp, Type: tasks.TypeTemplate, Waiting: 800, Paused: true}, Windows: day(tasks.TypeTemplate, 10_000, 10_000, 0, now)},
		},
		Holds: []hold.Hold{
			{App: testApp, Scope: hold.TemplateScope("tmpl-" + script), Reason: "template_held", Code: 43116, Since: now.Add(-time.Hour), Until: now.Add(10 * time.Minute), By: "worker a"},
			{App: otherApp, Scope: tasks.TypeTemplate, Reason: "quota_day", Code: 45009, Since: now.Add(-2 * time.Hour), Until: calendar.EndOfDay(now), By: "worker a"},
			{App: otherApp, Scope: hold.WholeApp, Reason: "legal asked " + script, Since: now.Add(-26 * time.Hour), By: "chen@ops-1"},
		},
		Orphans: []inspect.Lane{{App: "wx00000000000000aa", Type: tasks.TypeCustom, Waiting: 4}},
		Replicas: []heartbeat.Replica{
			{ID: "a", Kind: heartbeat.Worker, Host: "courier-1", PID: 4711, Version: "v1.2.0", Started: now.Add(-50 * time.Hour), Apps: 2, Active: 41, Seen: now},
			{ID: "b", Kind: heartbeat.Worker, Host: "courier-2", PID: 12, Version: "v1.1.0", Started: now.Add(-150 * time.Hour), Seen: now, Stopping: true},
			{ID: "c", Kind: heartbeat.Gateway, Host: "gate-" + script, PID: 7, Version: "v1.2.0", Started: now.Add(-time.Hour), Seen: now},
			{ID: "d", Kind: heartbeat.Worker, Host: "courier-3", PID: 99, Version: "v1.2.0", Started: now.Add(-time.Hour), Seen: now.Add(-3 * time.Minute), Lost: true},
		},
	}
	var points []series.Point
	for i := range minutes {
		at := from.Add(time.Duration(i) * time.Minute)
		n := int64(900 + i*13%170)
		points = append(points,
			series.Point{App: testApp, At: at, Type: tasks.TypeSubscribe, Outcome: string(tasks.OutcomeAccepted), Count: n},
			series.Point{App: testApp, At: at, Type: tasks.TypeSubscribe, Outcome: string(tasks.OutcomeRefused), ErrCode: 43101, Count: n / 9},
		)
		if i%7 == 0 {
			points = append(points,
				series.Point{App: otherApp, At: at, Type: tasks.TypeTemplate, Outcome: string(tasks.OutcomeRejected), ErrCode: 47003, Count: 12},
				series.Point{App: otherApp, At: at, Type: tasks.TypeTemplate, Outcome: string(tasks.OutcomeUnknown), Count: 2})
		}
	}
	read.hours = newHours(from, points)
	read.lag = []webhookLag{{Webhook: "crm", App: testApp, Lag: 1204, Oldest: now.Add(-4 * time.Minute), Next: now.Add(30 * time.Second)}}
	return read
}

// TestOverview shows everything to the keys that may see it, and nothing of other apps.
func TestOverview(t *testing.T) {
	_, rdb := redistest.Mini(t)
	s := newSite(t, rdb)
	now := time.Now()
	show(s.console, busyReadings(now))
	for lang, words := range map[string][]string{
		"en": {
			"12,030 bulk", "2,600 of 20,000 left", "4,000 for urgent tasks", "slowed to 70%", "runs out at", "used up", "template tmpl-&lt;script&gt;x", "legal asked &lt;script&gt;x",
			"WeChat has stopped the template", "today&#39;s quota is used up", "tasks that wait for it: 800", "token requested", "shared: links", "43101", "47003", "crm", "1,204", "courier-3", "lost", "2 versions",
			"wx00000000000000aa", "gate-&lt;script&gt;x", "paused in the asynq web UI", "Outcomes in the last hour",
		},
		"zh-CN": {"剩余 2,600 / 20,000", "已降速至 70%", "用完", "模板被微信封禁", "今日配额已用完", "暂停至", "未配置应用的任务", "近一小时的结果", "失联"},
	} {
		body := s.as(operateKey).speaking(lang).get("/").body
		for _, word := range words {
			if !strings.Contains(body, word) {
				t.Errorf("%s: no %q", lang, word)
			}
		}
		if strings.Contains(body, script) || strings.Contains(body, "style=") {
			t.Errorf("%s: not escaped, or a style that the policy refuses", lang)
		}
	}
	a := s.as(oneAppKey).get("/")
	for _, hidden := range []string{otherApp, "47003", "legal asked", "wx00000000000000aa"} {
		if strings.Contains(a.body, hidden) {
			t.Errorf("the key of one app sees %q", hidden)
		}
	}
	if !strings.Contains(a.body, testApp) {
		t.Error("the key of one app does not see it")
	}
	if a := s.as(oneAppKey).get("/?app=" + otherApp); a.status != http.StatusNotFound {
		t.Errorf("the other app: status %d", a.status)
	}
	if body := s.as(readKey).get("/?app=" + otherApp).body; !strings.Contains(body, "legal asked") || strings.Contains(body, "43101") {
		t.Error("the page of one app shows others, or not its own")
	}
}

// TestEmptyOverview: without tasks, replicas and counts the page says so.
func TestEmptyOverview(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		body := newSite(t, rdb).as(readKey).get("/").body
		for _, word := range []string{"Nothing stands still", "Nothing was sent today", "No worker is running", "No replica is running", "Everything was accepted"} {
			if !strings.Contains(body, word) {
				t.Errorf("no %q in\n%s", word, body)
			}
		}
	})
}

// TestForesee tells when a limit is used up.
func TestForesee(t *testing.T) {
	now := time.Date(2026, 11, 22, 15, 0, 0, 0, calendar.Shanghai())
	ends := calendar.EndOfDay(now)
	for _, tt := range []struct {
		name          string
		left, waiting int64
		pace          float64
		ends          time.Time
		want          forecast
	}{
		{"before midnight", 6000, 0, 1, ends, forecast{At: now.Add(100 * time.Minute)}},
		{"not before midnight", 40_000, 0, 1, ends, forecast{}},
		{"at midnight", int64(ends.Sub(now).Seconds()), 0, 1, ends, forecast{}},
		{"nothing is sent", 10, 3, 0, ends, forecast{}},
		{"more waits than is left", 10, 13, 0, ends, forecast{Over: 3}},
		{"spent", 0, 13, 5, ends, forecast{Spent: true, Over: 13}},
		{"more used than allowed", -7, 13, 5, ends, forecast{Spent: true, Over: 13}},
		{"of the lifetime", 86_400, 0, 1, time.Time{}, forecast{At: now.Add(24 * time.Hour)}},
		{"of the lifetime, in years", 1 << 60, 0, 1, time.Time{}, forecast{}},
	} {
		if got := foresee(now, tt.left, tt.waiting, tt.pace, tt.ends); got != tt.want {
			t.Errorf("%s: got %+v, want %+v", tt.name, got, tt.want)
		}
	}
}

// TestPaceOf counts whole minutes only.
func TestPaceOf(t *testing.T) {
	from := time.Date(2026, 11, 22, 15, 0, 0, 0, time.UTC)
	counts := make([]int64, 60)
	for i := range counts {
		counts[i] = int64(i)
	}
	for _, tt := range []struct {
		now  time.Time
		want float64
	}{
		{from.Add(30 * time.Second), 0},
		{from.Add(2*time.Minute + 30*time.Second), 1.0 / 120},
		{from.Add(59*time.Minute + 30*time.Second), (54 + 55 + 56 + 57 + 58) / 300.0},
		{from.Add(59 * time.Hour), 0},
	} {
		if got := paceOf(tt.now, from, counts); got != tt.want {
			t.Errorf("at %v: got %v, want %v", tt.now, got, tt.want)
		}
	}
}

// TestManyApps: the page of 200 busy apps has less than 100 KB, the stopped ones first.
func TestManyApps(t *testing.T) {
	_, rdb := redistest.Mini(t)
	now := time.Now()
	var apps []App
	for i := range 200 {
		apps = append(apps, App{ID: fmt.Sprintf("wx%016x", i)})
	}
	s := newSite(t, rdb, func(d *Deps) { d.Apps = func() []App { return apps } })
	read := readings{from: now.Truncate(time.Minute).Add(-59 * time.Minute)}
	var points []series.Point
	for i, app := range apps {
		for _, typ := range tasks.Types()[:8] {
			l := inspect.LaneUsage{Lane: inspect.Lane{App: app.ID, Type: typ, Waiting: int64(i), Bulk: 4, Active: 1}, Windows: day(typ, 18_000+int64(i), 20_000, 4000, now)}
			read.state.Lanes = append(read.state.Lanes, l)
		}
		for m := range minutes {
			for _, o := range tasks.Outcomes() {
				points = append(points, series.Point{App: app.ID, At: read.from.Add(time.Duration(m) * time.Minute), Type: tasks.TypeSubscribe, Outcome: string(o), ErrCode: 40000 + m, Count: 9})
			}
		}
		if i >= 150 {
			read.state.Holds = append(read.state.Holds, hold.Hold{App: app.ID, Scope: tasks.TypeSubscribe, Reason: "quota_day", Since: now, Until: now.Add(time.Hour), By: "worker a"})
		}
	}
	read.hours = newHours(read.from, points)
	show(s.console, read)
	u := s.as(readKey)
	for _, lang := range []string{"en", "zh-CN"} {
		start := time.Now()
		a := u.speaking(lang).get("/")
		t.Logf("%s: %d bytes in %v", lang, len(a.body), time.Since(start))
		if a.status != http.StatusOK || len(a.body) >= 100_000 {
			t.Errorf("%s: status %d, %d bytes", lang, a.status, len(a.body))
		}
		cards := regexp.MustCompile(`card app" id="(wx[0-9a-f]{16})"`).FindAllStringSubmatch(a.body, -1)
		if len(cards) == 0 || slices.ContainsFunc(cards, func(c []string) bool { return c[1] < apps[150].ID }) {
			t.Errorf("the cards are %v", cards)
		}
	}
}
