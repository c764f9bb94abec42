package main

import (
	"testing"
	"time"

	"github.com/wxcourier/wxcourier/internal/console"
	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/tasks"
)

func TestCheckRepairsDeletedTasks(t *testing.T) {
	mini, rdb := redistest.Mini(t)
	env, _ := newEnvOn(t, mini.Addr())
	l := ledger.New(rdb, ledger.Policy{})
	for _, id := range []string{"1", "2"} { // in the ledger, not in asynq
		m := ledger.MarkRequest{
			Ref: ledger.Ref{App: testApp, ID: id, Batch: "sale"}, Queue: testApp + ":" + tasks.TypeSubscribe, State: "waiting",
			Enqueued: time.Now().Add(-time.Hour),
		}
		if answer := l.MarkMany(t.Context(), []ledger.MarkRequest{m})[0]; answer.Err != nil {
			t.Fatal(answer.Err)
		}
	}
	if got := command(t, env, line("waits", openid), "enqueue", "-"); got.status != 0 {
		t.Fatal(got)
	}
	for range 2 { // a check changes nothing
		got := command(t, env, "", "check")
		mentions(t, "check", got.stdout, "warn  deleted tasks: 2 among 2 tasks without an outcome are not in asynq", "check --repair")
	}
	got := runRepair(t, env)
	mentions(t, "check --repair", got.stdout, "ok    deleted tasks: 2 tasks ended as canceled")
	mentions(t, "check --repair", got.stderr, "2 tasks not in asynq; checking again in 1ms")
	got = command(t, env, "", "results", "--json")
	for _, id := range []string{"1", "2"} {
		if r := got.results(t)[id]; r.Outcome != tasks.OutcomeCanceled || r.Reason != "deleted" || r.Batch != "sale" {
			t.Errorf("%s: %+v", id, r)
		}
	}
	mentions(t, "check", command(t, env, "", "check").stdout, "ok    deleted tasks: none among 0 tasks")
}

// runRepair runs check --repair with a confirmation time of 1 ms.
func runRepair(t *testing.T, env []string) commandResult {
	t.Helper()
	var stdout, stderr buffer
	p := &program{ctx: t.Context(), stdout: &stdout, stderr: console.New(&stderr), env: env, flags: &commands{}}
	c := checkCommand{Repair: true, confirm: time.Millisecond}
	return commandResult{p.status(c.Run(p)), stdout.String(), stderr.String()}
}
