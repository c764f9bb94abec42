package wxcouriertest_test

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/sandbox"
	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/worker"
	"github.com/wxcourier/wxcourier/wxcouriertest"
)

const (
	app           = wxcouriertest.App
	pathSubscribe = "/cgi-bin/message/subscribe/send"
)

// send enqueues a subscribe message to an openid.
func send(t testing.TB, kit *wxcouriertest.Kit, id, openid string, opts ...tasks.Option) {
	t.Helper()
	task, err := tasks.NewSubscribeTask(app, tasks.SubscribePayload{
		ToUser: openid, TemplateID: "T1", Data: tasks.Data{"character_string1": {Value: id}},
	}, append(opts, tasks.ID(id))...)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kit.Client().Enqueue(t.Context(), task); err != nil {
		t.Fatal(err)
	}
}

func TestResults(t *testing.T) {
	t.Parallel()
	kit := wxcouriertest.Start(t, wxcouriertest.Options{})
	send(t, kit, "one", "oOne")
	if got := kit.Next(); got.ID != "one" || got.Outcome != tasks.OutcomeAccepted {
		t.Errorf("next: %+v", got)
	}
	send(t, kit, "two", "badopenid-oTwo")
	if got := kit.Result("two"); got.Outcome != tasks.OutcomeRejected || got.ErrCode != 40003 {
		t.Errorf("result: %+v", got)
	}
	if got := kit.Next(); got.ID != "two" {
		t.Errorf("Result took the result from Next: %+v", got)
	}
	if _, err := kit.Inspector().Redrive(t.Context(), app, "two", tasks.Redrive{Outcomes: []tasks.Outcome{tasks.OutcomeRejected}}); err != nil {
		t.Fatal(err)
	}
	if got := kit.Next(); got.ID != "two" || got.Generation != 1 {
		t.Errorf("after a redrive: %+v", got)
	}
	if got := kit.Result("two"); got.Generation != 1 {
		t.Errorf("the latest result: %+v", got)
	}
	if all := kit.Results(); len(all) != 3 || all[0].ID != "one" {
		t.Errorf("all: %+v", all)
	}
	if n := kit.WeChat.Delivered(app, "oOne", "T1"); n != 1 {
		t.Errorf("delivered %d times", n)
	}
}

// The clocks of Redis, also in scripts, of the kit and of WeChat agree before and after a move.
func TestOneClock(t *testing.T) {
	t.Parallel()
	kit := wxcouriertest.Start(t, wxcouriertest.Options{})
	near := func(what string, at time.Time) {
		t.Helper()
		if d := kit.Now().Sub(at).Abs(); d > 2*time.Second {
			t.Errorf("%s is %v from the kit's clock", what, d)
		}
	}
	check := func() {
		t.Helper()
		at, err := kit.Redis().Time(t.Context()).Result()
		if err != nil {
			t.Fatal(err)
		}
		near("Redis", at)
		seconds, err := kit.Redis().Eval(t.Context(), "return tonumber(redis.call('TIME')[1])", nil).Int64()
		if err != nil {
			t.Fatal(err)
		}
		near("a script", time.Unix(seconds, 0))
		id, err := kit.Redis().XAdd(t.Context(), &redis.XAddArgs{Stream: "s", Values: []any{"a", "b"}}).Result()
		if err != nil {
			t.Fatal(err)
		}
		var ms int64
		if _, err := fmt.Sscanf(id, "%d-", &ms); err != nil {
			t.Fatal(err)
		}
		near("a stream", time.UnixMilli(ms))
		calls := len(kit.WeChat.Calls(sandbox.Filter{}))
		send(t, kit, fmt.Sprintf("m-%d", calls), "oAbc")
		if got := kit.Next(); got.Outcome != tasks.OutcomeAccepted {
			t.Fatalf("%+v", got)
		} else {
			near("finished_at", got.FinishedAt)
		}
		all := kit.WeChat.Calls(sandbox.Filter{})
		near("WeChat", all[len(all)-1].At)
	}
	started := kit.Now()
	check()
	if err := kit.Redis().Set(t.Context(), "brief", "x", time.Hour).Err(); err != nil {
		t.Fatal(err)
	}
	kit.Advance(50 * time.Minute)
	if kit.Redis().Exists(t.Context(), "brief").Val() != 1 {
		t.Error("the key expired too early")
	}
	kit.Advance(11 * time.Minute)
	if kit.Redis().Exists(t.Context(), "brief").Val() != 0 {
		t.Error("the key did not expire")
	}
	check()
	kit.AdvanceTo("03:30")
	if now := kit.Now(); now.Hour() != 3 || now.Minute() != 30 || now.Sub(started) > 26*time.Hour {
		t.Errorf("03:30 is %v, %v later", now, now.Sub(started))
	}
	check()
	if n := kit.WeChat.TokensIssued(app, sandbox.Stable); n < 2 && kit.Now().Sub(started) > 3*time.Hour {
		t.Errorf("%d tokens were issued in %v", n, kit.Now().Sub(started))
	}
}

// A message waits for the hours of its app, and is sent when they open.
func TestHours(t *testing.T) {
	t.Parallel()
	kit := wxcouriertest.Start(t, wxcouriertest.Options{
		Apps: []worker.App{{ID: app, Hours: worker.Hours{"send:*": "08:00-22:00"}}},
	})
	kit.AdvanceTo("23:00")
	send(t, kit, "night", "oAbc")
	send(t, kit, "at-once", "oDef", tasks.IgnoreHours())
	kit.Result("at-once")
	kit.AdvanceTo("07:59")
	kit.StopWorker()
	if n := kit.WeChat.Delivered(app, "oAbc", ""); n != 0 {
		t.Errorf("%d messages at night", n)
	}
	kit.StartWorker()
	kit.AdvanceTo("08:00")
	began := time.Now()
	if got := kit.Result("night"); got.Outcome != tasks.OutcomeAccepted {
		t.Errorf("%+v", got)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %v after the hours opened", took)
	}
	for _, c := range kit.WeChat.Calls(sandbox.Filter{OpenID: "oAbc"}) {
		if hour := c.At.Hour(); hour < 8 || hour >= 22 {
			t.Errorf("a call at %v", c.At)
		}
	}
}

func TestNotAfter(t *testing.T) {
	t.Parallel()
	kit := wxcouriertest.Start(t, wxcouriertest.Options{})
	kit.Advance(36 * time.Hour)
	kit.StopWorker()
	send(t, kit, "late", "oAbc", tasks.NotAfter(kit.Now().Add(time.Hour)))
	send(t, kit, "in-time", "oDef", tasks.NotAfter(kit.Now().Add(3*time.Hour)))
	kit.Advance(2 * time.Hour)
	kit.StartWorker()
	if got := kit.Result("late"); got.Outcome != tasks.OutcomeExpired {
		t.Errorf("%+v", got)
	}
	if got := kit.Result("in-time"); got.Outcome != tasks.OutcomeAccepted {
		t.Errorf("%+v", got)
	}
}

// A scheduled message is sent at its time by the kit's clock, whether it was enqueued before or
// after the clock moved.
func TestProcessAt(t *testing.T) {
	t.Parallel()
	kit := wxcouriertest.Start(t, wxcouriertest.Options{})
	for _, id := range []string{"first", "second"} {
		at := kit.Now().Add(10 * time.Hour)
		send(t, kit, id, "o"+id, tasks.ProcessAt(at))
		kit.Advance(9 * time.Hour)
		kit.WaitState(app, id, tasks.StateScheduled)
		kit.Advance(2 * time.Hour)
		if got := kit.Result(id); got.Outcome != tasks.OutcomeAccepted || got.FinishedAt.Before(at) {
			t.Errorf("due at %v: %+v", at, got)
		}
	}
	soon := kit.Now().Add(2 * time.Second)
	send(t, kit, "soon", "oSoon", tasks.ProcessAt(soon))
	if got := kit.Result("soon"); got.FinishedAt.Before(soon.Truncate(time.Second)) {
		t.Errorf("due at %v: %+v", soon, got)
	}
}

// A retry need not be waited for.
func TestRetry(t *testing.T) {
	t.Parallel()
	kit := wxcouriertest.Start(t, wxcouriertest.Options{Attempts: 3})
	send(t, kit, "busy", "busy2-oAbc")
	send(t, kit, "hopeless", "busy9-oAbc")
	began := time.Now()
	for attempt := range 3 {
		if attempt < 2 {
			kit.WaitState(app, "busy", tasks.StateRetrying)
			kit.WaitState(app, "hopeless", tasks.StateRetrying)
		}
		redistest.Until(t, 20*time.Second, "the attempts", func() bool {
			return kit.WeChat.Count(sandbox.Filter{Path: pathSubscribe}) >= 2*(attempt+1)
		})
		if attempt < 2 {
			kit.Advance(time.Hour)
		}
	}
	if got := kit.Result("busy"); got.Outcome != tasks.OutcomeAccepted || got.Attempts != 3 {
		t.Errorf("%+v", got)
	}
	if got := kit.Result("hopeless"); got.Outcome != tasks.OutcomeFailed || got.ErrCode != -1 {
		t.Errorf("%+v", got)
	}
	if took := time.Since(began); took > 15*time.Second {
		t.Errorf("two retries took %v", took)
	}
}

// The day's quota, by our own count and by WeChat's, returns at midnight.
func TestDaysQuota(t *testing.T) {
	t.Parallel()
	kit := wxcouriertest.Start(t, wxcouriertest.Options{
		Limits: map[string]ratelimit.Limit{tasks.TypeSubscribe: {PerDay: 3}},
	})
	kit.AdvanceTo("12:00")
	for i := range 5 {
		send(t, kit, fmt.Sprintf("m%d", i), fmt.Sprintf("oAbc%d", i))
	}
	for range 3 {
		kit.Next()
	}
	kit.Advance(time.Hour)
	if n := len(kit.Results()); n != 3 {
		t.Errorf("%d results with a quota of 3", n)
	}
	kit.AdvanceTo("00:30")
	for range 2 {
		if got := kit.Next(); got.Outcome != tasks.OutcomeAccepted || got.FinishedAt.In(kit.Now().Location()).Hour() != 0 {
			t.Errorf("%+v", got)
		}
	}
}

func TestWeChatsQuota(t *testing.T) {
	t.Parallel()
	kit := wxcouriertest.Start(t, wxcouriertest.Options{})
	kit.AdvanceTo("12:00")
	if err := kit.WeChat.SetQuota(app, pathSubscribe, 10_000_000); err != nil {
		t.Fatal(err)
	}
	send(t, kit, "m", "oAbc")
	redistest.Until(t, 20*time.Second, "the worker learns it, by a refusal or by quota/get", func() bool {
		return kit.WeChat.Count(sandbox.Filter{ErrCodes: []int{45009}})+kit.WeChat.Count(sandbox.Filter{Path: "/cgi-bin/openapi/quota/get"}) > 0
	})
	kit.AdvanceTo("00:30")
	if got := kit.Result("m"); got.Outcome != tasks.OutcomeAccepted || got.FinishedAt.In(kit.Now().Location()).Hour() != 0 {
		t.Errorf("%+v", got)
	}
}

func TestRevokedToken(t *testing.T) {
	t.Parallel()
	kit := wxcouriertest.Start(t, wxcouriertest.Options{})
	send(t, kit, "one", "oAbc")
	kit.Result("one")
	if n := kit.WeChat.Revoke(app); n != 1 {
		t.Errorf("%d tokens revoked", n)
	}
	send(t, kit, "two", "oAbc")
	if got := kit.Result("two"); got.Outcome != tasks.OutcomeAccepted {
		t.Errorf("%+v", got)
	}
	if n := kit.WeChat.TokensIssued(app, sandbox.Stable); n != 2 {
		t.Errorf("%d tokens issued", n)
	}
}

// A call without an answer takes Options.CallTimeout, and its outcome is unknown.
func TestLostAnswer(t *testing.T) {
	t.Parallel()
	kit := wxcouriertest.Start(t, wxcouriertest.Options{CallTimeout: 300 * time.Millisecond})
	send(t, kit, "m", "hangafter-oAbc")
	if got := kit.Result("m"); got.Outcome != tasks.OutcomeUnknown {
		t.Errorf("%+v", got)
	}
	if n := kit.WeChat.Delivered(app, "hangafter-oAbc", ""); n != 1 {
		t.Errorf("delivered %d times", n)
	}
}

// Kits share nothing: each has its own tasks, results, calls and clock.
func TestIndependent(t *testing.T) {
	t.Parallel()
	one, two := wxcouriertest.Start(t, wxcouriertest.Options{}), wxcouriertest.Start(t, wxcouriertest.Options{})
	send(t, one, "same", "oAbc")
	one.Advance(48 * time.Hour)
	one.Result("same")
	if d := one.Now().Sub(two.Now()); d < 47*time.Hour {
		t.Errorf("the clocks are %v apart", d)
	}
	if len(two.Results()) != 0 || len(two.WeChat.Calls(sandbox.Filter{})) != 0 {
		t.Errorf("results %v, calls %v", two.Results(), two.WeChat.Calls(sandbox.Filter{}))
	}
	send(t, two, "same", "oDef")
	if got := two.Result("same"); got.Outcome != tasks.OutcomeAccepted {
		t.Errorf("%+v", got)
	}
}

// probe is the testing.TB of a kit whose test is over when end is called.
type probe struct {
	testing.TB
	fails    bool
	cleanups []func()
	logged   strings.Builder
}

func (p *probe) Cleanup(f func()) { p.cleanups = append(p.cleanups, f) }
func (p *probe) Failed() bool     { return p.fails }
func (p *probe) Log(args ...any)  { _, _ = fmt.Fprintln(&p.logged, args...) }

func (p *probe) Fatalf(format string, args ...any) {
	_, _ = fmt.Fprintf(&p.logged, format, args...)
	p.fails = true
	panic(p)
}

func (p *probe) end() {
	for _, f := range slices.Backward(p.cleanups) {
		f()
	}
	p.cleanups = nil
}

// A failed test shows what WeChat got, the results and the worker's log; another shows nothing.
func TestReport(t *testing.T) {
	t.Parallel()
	for _, fails := range []bool{false, true} {
		p := &probe{TB: t, fails: fails}
		kit := wxcouriertest.Start(p, wxcouriertest.Options{})
		send(t, kit, "order-42", "unsubscribed-oAbc")
		kit.Result("order-42")
		p.end()
		if !fails {
			if p.logged.Len() > 0 {
				t.Errorf("a test that passed logged %s", &p.logged)
			}
			continue
		}
		for _, want := range []string{
			pathSubscribe + " openid=unsubscribed-oAbc template=T1 fault=unsubscribed body={", `"value":"order-42"`,
			"→ 43101 user refuse", `"outcome":"refused"`, "worker started",
		} {
			if !strings.Contains(p.logged.String(), want) {
				t.Errorf("the report does not say %q:\n%s", want, &p.logged)
			}
		}
	}
}

// A wait that takes too long fails the test, and says where the task is.
func TestWaitsEnd(t *testing.T) {
	t.Parallel()
	p := &probe{TB: t}
	kit := wxcouriertest.Start(p, wxcouriertest.Options{WaitTimeout: 500 * time.Millisecond})
	defer p.end()
	kit.StopWorker()
	send(t, kit, "m", "oAbc")
	for want, wait := range map[string]func(){
		"no result of m within 500ms: it is waiting, after 0 attempts":   func() { kit.Result("m") },
		"no result of x within 500ms: no task with this id was enqueued": func() { kit.Result("x") },
		"no further result within 500ms":                                 func() { kit.Next() },
		"m was not retrying within 500ms: it is waiting":                 func() { kit.WaitState(app, "m", tasks.StateRetrying) },
		"the clock moves forward only":                                   func() { kit.Advance(-time.Second) },
		`AdvanceTo("noon"): write it like 08:00`:                         func() { kit.AdvanceTo("noon") },
	} {
		p.logged.Reset()
		func() {
			defer func() { _ = recover() }()
			wait()
		}()
		if !strings.Contains(p.logged.String(), want) {
			t.Errorf("%q, want %q", p.logged.String(), want)
		}
	}
}

// Nothing of a kit runs after its test, even if a call hangs.
func TestNothingIsLeft(t *testing.T) { // not parallel: it counts goroutines
	before := goroutines()
	for range 3 {
		p := &probe{TB: t}
		kit := wxcouriertest.Start(p, wxcouriertest.Options{})
		send(t, kit, "m", "oAbc")
		kit.Result("m")
		kit.Advance(time.Hour)
		send(t, kit, "hang", "hang-oAbc")
		redistest.Until(t, 20*time.Second, "the call", func() bool {
			return len(kit.WeChat.Calls(sandbox.Filter{OpenID: "hang-oAbc"})) > 0
		})
		began := time.Now()
		p.end()
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("the end took %v", took)
		}
	}
	var after []string
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if after = goroutines(); len(after) <= len(before) {
			return
		}
	}
	t.Errorf("%d goroutines before, %d after:\n%s", len(before), len(after), strings.Join(after, "\n\n"))
}

func goroutines() []string {
	buf := make([]byte, 1<<20)
	return strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n")
}
