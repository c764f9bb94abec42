package main

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/wxcourier/wxcourier/internal/dispatch"
	"github.com/wxcourier/wxcourier/internal/hold"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/sandbox"
	"github.com/wxcourier/wxcourier/tasks"
)

const paused = "asynq:{" + testApp + ":send:subscribe}:paused"

// TestHoldAndRelease: for a held app, neither a running worker nor one started later sends
// anything; after the release all tasks are sent.
func TestHoldAndRelease(t *testing.T) {
	t.Chdir(t.TempDir())
	server := redistest.Start(t)
	env, wx := newEnvOn(t, server.Addr())
	rdb := server.Client(t)
	_, stderr, stop := background(t, env, "worker")
	redistest.Until(t, 10*time.Second, "the worker starts", func() bool { return strings.Contains(stderr.String(), "worker started") })

	got := command(t, env, "", "hold", "--app", testApp, "--reason", "stopped by legal")
	if got.status != statusDone {
		t.Fatalf("%+v", got)
	}
	mentions(t, "hold", got.stdout, "Held: "+testApp+" all types: stopped by legal, until released, by ", "@")
	again := command(t, env, "", "hold", "--app", testApp, "--until", time.Now().Add(time.Hour).Format(time.RFC3339))
	if again.status != statusDone {
		t.Errorf("%+v", again)
	}
	mentions(t, "a second hold", again.stdout, "Already held: ", "stopped by legal, until released")
	pausedBy := func(want string) { // a replica that has just started syncs the pauses after a moment
		t.Helper()
		redistest.Until(t, 10*time.Second, "paused by "+want, func() bool { return rdb.Get(t.Context(), paused).Val() == want })
	}
	pausedBy("wxcourier:*")

	if got := command(t, env, line("a", openid)+line("b", openid), "enqueue", "-"); got.status != statusDone {
		t.Fatalf("%+v", got)
	}
	status := command(t, env, "", "status")
	mentions(t, "status", status.stdout, "Holds:", "stopped by legal", "until released")
	if !regexp.MustCompile(testApp + ` +send:subscribe +2 .* all types`).MatchString(status.stdout) {
		t.Errorf("status does not show the lane as paused by the hold:\n%s", status.stdout)
	}
	if code := stop(); code != statusDone {
		t.Errorf("worker: status %d\n%s", code, stderr)
	}
	_, stderr, _ = background(t, env, "worker")
	redistest.Until(t, 10*time.Second, "it starts again", func() bool { return strings.Contains(stderr.String(), "worker started") })
	if n := wx.Count(sandbox.Filter{}); n != 0 {
		t.Errorf("%d calls while the app was held", n)
	}

	released := command(t, env, "", "release", "--app", testApp)
	if released.status != statusDone {
		t.Errorf("%+v", released)
	}
	mentions(t, "release", released.stdout, "Released: "+testApp+" all types: stopped by legal")
	pausedBy("")
	redistest.Until(t, 20*time.Second, "both tasks ended", func() bool {
		return strings.Count(command(t, env, "", "results", "--json").stdout, "\n") == 2
	})
	if got := command(t, env, "", "release", "--app", testApp); got.status != statusDone || !strings.Contains(got.stdout, "Nothing was held") {
		t.Errorf("released again: %+v", got)
	}
}

// TestHoldWithoutWorker: hold and release pause and resume asynq's queues when no worker runs,
// and leave a pause set by hand alone.
func TestHoldWithoutWorker(t *testing.T) {
	t.Chdir(t.TempDir())
	mini, rdb := redistest.Mini(t)
	env, _ := newEnvOn(t, mini.Addr())
	byHand := "asynq:{" + testApp + ":send:custom}:paused"
	if err := rdb.Set(t.Context(), byHand, "1764000000", 0).Err(); err != nil {
		t.Fatal(err)
	}
	until := time.Now().Add(time.Hour).Truncate(time.Second)
	got := command(t, env, "", "hold", "--json", "--app", testApp, "--until", until.Format(time.RFC3339))
	var receipt holdReceipt
	if err := json.Unmarshal([]byte(got.stdout), &receipt); err != nil || got.status != statusDone {
		t.Fatalf("%+v, %v", got, err)
	}
	if !receipt.Set || receipt.Scope != hold.WholeApp || receipt.Reason != "operator" || !receipt.Until.Equal(until) {
		t.Errorf("%+v", receipt)
	}
	if v, ttl := rdb.Get(t.Context(), paused).Val(), mini.TTL(paused); v != "wxcourier:*" || ttl <= 0 || ttl > time.Hour {
		t.Errorf("paused by %q for %v", v, ttl)
	}
	released := command(t, env, "", "release", "--json", "--app", testApp)
	var answer releaseReceipt
	if err := json.Unmarshal([]byte(released.stdout), &answer); err != nil || !answer.Released || answer.Hold == nil || answer.Hold.Reason != "operator" {
		t.Errorf("%+v, %v", released, err)
	}
	if mini.Exists(paused) {
		t.Error("still paused after the release")
	}
	if v := rdb.Get(t.Context(), byHand).Val(); v != "1764000000" {
		t.Errorf("the pause by hand is %q", v)
	}
}

// TestReleaseEndsWorkerHold: release ends holds of a type and of a template set by a worker.
func TestReleaseEndsWorkerHold(t *testing.T) {
	t.Chdir(t.TempDir())
	mini, rdb := redistest.Mini(t)
	env, _ := newEnvOn(t, mini.Addr())
	holds := hold.NewStore(rdb)
	for scope, args := range map[string]string{
		tasks.TypeSubscribe: "--type send:subscribe", hold.TemplateScope("T1"): "--template T1",
	} {
		h := hold.Hold{App: testApp, Scope: scope, Reason: "quota_day", Code: 45009, Until: time.Now().Add(time.Hour), By: "worker r1"}
		if _, err := holds.Set(t.Context(), h); err != nil {
			t.Fatal(err)
		}
		status := command(t, env, "", "status")
		if !regexp.MustCompile(testApp + ` +` + scope + ` +quota day +45009 +\S+ \S+ +\S+ \S+ +worker r1`).MatchString(status.stdout) {
			t.Errorf("status:\n%s", status.stdout)
		}
		longer := command(t, env, "", append([]string{"hold", "--app", testApp, "--reason", "by a person"}, strings.Fields(args)...)...)
		mentions(t, "hold over a worker's", longer.stdout, "Held: ", "by a person, until released", "@")
		got := command(t, env, "", append([]string{"release", "--app", testApp}, strings.Fields(args)...)...)
		if got.status != statusDone || !strings.HasPrefix(got.stdout, "Released: "+testApp+" "+scope) {
			t.Errorf("%+v", got)
		}
		if _, held, err := holds.Get(t.Context(), testApp, scope); held || err != nil {
			t.Errorf("%s is still held, %v", scope, err)
		}
	}
}

// TestStatusNamesUnlistedCode: status names a code that holds a lane and has no row in the code
// table.
func TestStatusNamesUnlistedCode(t *testing.T) {
	t.Chdir(t.TempDir())
	mini, rdb := redistest.Mini(t)
	env, _ := newEnvOn(t, mini.Addr())
	holds := hold.NewStore(rdb)
	for scope, h := range map[string]hold.Hold{
		tasks.TypeCustom:    {Reason: dispatch.ReasonUnlistedCode, Code: 61999},
		tasks.TypeSubscribe: {Reason: "quota_day", Code: 45009},
	} {
		h.App, h.Scope, h.By = testApp, scope, hold.ReplicaPrefix+"r1"
		if _, _, err := holds.SetEnding(t.Context(), h, hold.End{After: time.Hour}); err != nil {
			t.Fatal(err)
		}
	}
	status := command(t, env, "", "status").stdout
	if !regexp.MustCompile(testApp + ` +send:custom +unlisted code +61999 +\S+ \S+ +next probe \S+ \S+ +worker r1`).MatchString(status) {
		t.Errorf("status:\n%s", status)
	}
	mentions(t, "status", status, "errcode 61999 of "+testApp+" send:custom has no row in the code table")
	if strings.Contains(status, "errcode 45009 of") {
		t.Errorf("a listed code is reported as unlisted:\n%s", status)
	}
}

// TestHeldTemplateIsRejected: tasks of a held template end as rejected, without a call.
func TestHeldTemplateIsRejected(t *testing.T) {
	t.Chdir(t.TempDir())
	env, wx := newEnv(t)
	if got := command(t, env, "", "hold", "--app", testApp, "--template", "T1"); got.status != statusDone {
		t.Fatalf("%+v", got)
	}
	other := strings.Replace(line("b", openid), `"T1"`, `"T2"`, 1)
	ran := command(t, env, line("a", openid)+other, "run", "-")
	results := ran.results(t)
	if a := results["a"]; a.Outcome != tasks.OutcomeRejected || a.Attempts != 0 || a.Reason != "template_held: operator" {
		t.Errorf("of the held template: %+v", a)
	}
	if b := results["b"]; b.Outcome != tasks.OutcomeAccepted {
		t.Errorf("of another one: %+v", b)
	}
	if n := wx.Count(sandbox.Filter{Path: "/cgi-bin/message/subscribe/send"}); n != 1 {
		t.Errorf("%d calls", n)
	}
}

func TestHoldOfUnknownApp(t *testing.T) {
	t.Chdir(t.TempDir())
	env, _ := newEnv(t)
	typo := testApp[:len(testApp)-1] + "0"
	for _, name := range []string{"hold", "release"} {
		got := command(t, env, "", name, "--app", typo)
		if got.status != statusFailed || got.stdout != "" {
			t.Errorf("%+v", got)
		}
		mentions(t, name, got.stderr, typo, "did you mean "+testApp)
	}
	// An app that is only in another configuration can be held from here.
	const other = "wxfedcba9876543210"
	if got := command(t, env, strings.Replace(line("a", openid), testApp, other, 1), "enqueue", "-"); got.status != statusDone {
		t.Fatalf("%+v", got)
	}
	if got := command(t, env, "", "hold", "--app", other); got.status != statusDone {
		t.Errorf("%+v", got)
	}
	mentions(t, "status", command(t, env, "", "status").stdout, other+"  all types  operator")
}
