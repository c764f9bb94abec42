package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/tasks"
)

// TestResultsThatWereCutAreSaid: results, redrive and check say to which time the results go back if
// stream_max_len has cut them, and the exit status is 1 if --since asks for more.
func TestResultsThatWereCutAreSaid(t *testing.T) {
	server := redistest.Start(t)
	rdb := server.Client(t)
	env, _ := newEnvOn(t, server.Addr())
	const goBack = "the results of " + testApp + " go back to "
	rdb.SAdd(t.Context(), ledger.AppsKey, testApp)
	settle := func(l *ledger.Ledger, prefix string, n int) {
		t.Helper()
		for i := range n {
			r := tasks.Result{ID: fmt.Sprintf("%s%d", prefix, i), App: testApp, Type: tasks.TypeSubscribe, Outcome: tasks.OutcomeRejected, ErrCode: 40037, FinishedAt: time.Now()}
			payload, err := tasks.Envelope{Type: r.Type, App: testApp, ID: r.ID, Body: []byte(`{}`)}.Encode()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := l.Settle(t.Context(), ledger.Ref{App: testApp, ID: r.ID}, ledger.SettleRequest{
				Outcome: string(r.Outcome), Result: r.Encode(), Queue: testApp + ":" + r.Type, Content: ledger.TaskContent{Payload: payload},
			}); err != nil {
				t.Fatal(err)
			}
		}
	}
	settle(ledger.New(rdb, ledger.Policy{Retention: 24 * time.Hour}), "a", 94)
	redrive := []string{"redrive", "--outcome", "rejected", "--since", "2h", "--dry-run"}
	if got := command(t, env, "", redrive...); got.status != statusDone || got.stdout != "94 tasks would be redriven\n" || got.stderr != "" {
		t.Errorf("before: %+v", got)
	}
	mentions(t, "check", command(t, env, "", "check").stdout, "ok    results: kept for results.retention")

	settle(ledger.New(rdb, ledger.Policy{Retention: 24 * time.Hour, StreamMax: 25}), "b", 400)
	kept := rdb.XLen(t.Context(), ledger.StreamKey(testApp)).Val()
	count := fmt.Sprintf("%d tasks would be redriven", kept)
	for _, tt := range []struct {
		args   []string
		status int
		said   bool
	}{
		{[]string{"results", "--json", "--since", "2h"}, statusFailed, true},
		{[]string{"results", "--json"}, statusDone, true},
		{[]string{"results", "--json", "--since", "0s"}, statusDone, false},
		{redrive, statusFailed, true},
		{[]string{"redrive", "--outcome", "rejected", "--dry-run"}, statusDone, true},
		{[]string{"redrive", "--outcome", "rejected", "--dry-run", "--since", "2099-01-01T00:00:00Z"}, statusDone, false},
	} {
		got := command(t, env, "", tt.args...)
		if got.status != tt.status || strings.Contains(got.stderr, goBack) != tt.said || strings.Contains(got.stdout, goBack) {
			t.Errorf("%v: %+v, want status %d, said %t", tt.args, got, tt.status, tt.said)
		}
		if tt.said && tt.args[0] == "redrive" {
			mentions(t, "redrive", got.stdout, count)
			mentions(t, "redrive", got.stderr, "--batch or --id", "results.stream_max_len")
		}
		if tt.said && tt.args[0] == "results" && int64(strings.Count(got.stdout, "\n")) != kept {
			t.Errorf("%v: %d lines of %d results", tt.args, strings.Count(got.stdout, "\n"), kept)
		}
	}
	var counts struct{ Cut map[string]time.Time }
	got := command(t, env, "", append(redrive, "--json")...)
	if err := json.Unmarshal([]byte(got.stdout), &counts); err != nil || time.Since(counts.Cut[testApp]) > time.Hour {
		t.Errorf("%+v, %v", got, err)
	}
	mentions(t, "check", command(t, env, "", "check").stdout, "warn  results of "+testApp+": go back only ", "raise it, or set it to 0")
}
