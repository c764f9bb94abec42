package main

import (
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/wxcourier/wxcourier/internal/hold"
	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/tasks"
)

// TestNoControlCharactersArePrinted: errmsg and reason may hold any characters, also in records of
// an earlier version.
func TestNoControlCharactersArePrinted(t *testing.T) {
	mini, rdb := redistest.Mini(t)
	env, _ := newEnvOn(t, mini.Addr())
	const evil = "no\r\nFORGED accepted\x1b[2J\x1b]0;title\a\u009b31m\u202eevil\u2028\x7f"
	r := tasks.Result{
		ID: "1", App: testApp, Type: tasks.TypeSubscribe, State: tasks.StateDone, Outcome: tasks.OutcomeRejected, ErrCode: 47003,
		ErrMsg: evil, RID: evil, Reason: evil, TraceID: evil, FinishedAt: time.Now(),
	}
	l := ledger.New(rdb, ledger.Policy{Retention: time.Hour, StreamMax: 100})
	if _, err := l.Settle(t.Context(), ledger.Ref{App: testApp, ID: "1"}, ledger.SettleRequest{
		Outcome: string(r.Outcome), Result: r.Encode(), Queue: testApp + ":" + r.Type,
	}); err != nil {
		t.Fatal(err)
	}
	if err := rdb.SAdd(t.Context(), ledger.AppsKey, testApp).Err(); err != nil {
		t.Fatal(err)
	}
	if _, err := hold.NewStore(rdb).Set(t.Context(), hold.Hold{App: testApp, Scope: hold.WholeApp, Reason: evil, By: evil}); err != nil {
		t.Fatal(err)
	}
	for _, args := range []string{"results", "results --csv", "results --json", "status", "status --json", "check"} {
		got := command(t, env, "", strings.Fields(args)...)
		for _, c := range got.stdout + got.stderr {
			if c != '\n' && unicode.IsControl(c) || c == '\u2028' || unicode.Is(unicode.Bidi_Control, c) {
				t.Errorf("%s prints %U:\n%q", args, c, got.stdout+got.stderr)
				break
			}
		}
		for row := range strings.Lines(got.stdout) {
			if strings.HasPrefix(row, "FORGED") {
				t.Errorf("%s prints a forged line:\n%s", args, got.stdout)
			}
		}
		switch args {
		case "results", "results --csv":
			mentions(t, args, got.stdout, `no\r\nFORGED accepted\x1b[2J`)
		case "results --json":
			if back := got.results(t)["1"]; back.ErrMsg != evil || back.Reason != evil {
				t.Errorf("the JSON decodes to %q", back.ErrMsg)
			}
		}
	}
}
