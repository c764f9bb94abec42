package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/tasks"
)

// TestResultsShowReceipts: results lists each task once, with the receipt that came later; --receipt
// filters them, and finds those without one. task and status show receipts too.
func TestResultsShowReceipts(t *testing.T) {
	server := redistest.Start(t)
	rdb, ctx := server.Client(t), t.Context()
	env, _ := newEnvOn(t, server.Addr())
	rdb.SAdd(ctx, ledger.AppsKey, testApp)
	l := ledger.New(rdb, ledger.Policy{Retention: time.Hour})
	for i, outcome := range []tasks.Outcome{tasks.OutcomeAccepted, tasks.OutcomeAccepted, tasks.OutcomeRefused, tasks.OutcomeAccepted} {
		r := tasks.Result{
			ID: fmt.Sprint("t", i), App: testApp, Type: tasks.TypeSubscribe, Batch: "sale", State: tasks.StateDone, Outcome: outcome, ErrMsg: "ok",
			FinishedAt: time.Now(), EnqueuedAt: time.Now(),
		}
		if outcome == tasks.OutcomeAccepted {
			r.MsgID = fmt.Sprint("900", i)
		}
		if _, err := l.Settle(ctx, ledger.Ref{App: testApp, ID: r.ID, Batch: "sale"}, ledger.SettleRequest{
			Outcome: string(outcome), Result: r.Encode(), Queue: testApp + ":" + r.Type,
		}); err != nil {
			t.Fatal(err)
		}
	}
	rdb.HSet(ctx, ledger.BatchKey(testApp, "sale"), "total", 4)
	receive := func(id string, receipt tasks.DeliveryReceipt, status string) {
		t.Helper()
		at := time.Now().Truncate(time.Second)
		entry := tasks.Result{
			ID: id, App: testApp, Type: tasks.TypeSubscribe, Batch: "sale", State: tasks.StateDone, Outcome: tasks.OutcomeAccepted,
			MsgID: "900" + id[1:], Receipt: receipt, ReceiptStatus: status, ReceiptAt: at,
		}
		rdb.HSet(ctx, ledger.TaskKey(testApp, id), "receipt", fmt.Sprintf("%s %d %s", receipt, at.Unix(), status))
		rdb.HIncrBy(ctx, ledger.BatchKey(testApp, "sale"), "receipt:"+string(receipt), 1)
		if err := rdb.XAdd(ctx, &redis.XAddArgs{Stream: ledger.StreamKey(testApp), Values: []any{"result", entry.Encode()}}).Err(); err != nil {
			t.Fatal(err)
		}
	}
	receive("t0", tasks.ReceiptDelivered, "success")
	receive("t1", tasks.ReceiptBlocked, "failed:user block")

	for args, want := range map[string]string{
		"--batch sale":                              "t0 delivered, t1 blocked, t2 , t3 ",
		"--receipt blocked":                         "t1 blocked",
		"--receipt none":                            "t3 ",
		"--receipt delivered,none":                  "t0 delivered, t3 ",
		"--outcome refused":                         "t2 ",
		"--outcome accepted --receipt blocked,none": "t1 blocked, t3 ",
		"--batch other":                             "",
	} {
		got := command(t, env, "", append([]string{"results", "--json"}, strings.Fields(args)...)...)
		var ids []string
		for line := range strings.Lines(got.stdout) {
			var r tasks.Result
			if err := json.Unmarshal([]byte(line), &r); err != nil {
				t.Fatal(err)
			}
			if ids = append(ids, r.ID+" "+string(r.Receipt)); r.IsReceipt() {
				t.Errorf("%s: %+v is a receipt alone", args, r)
			}
		}
		if text := strings.Join(ids, ", "); got.status != statusDone || text != want {
			t.Errorf("%s: %d %q, want %q", args, got.status, text, want)
		}
	}
	mentions(t, "results", command(t, env, "", "results").stdout, "9000 delivered", "9001 blocked (failed:user block)")
	mentions(t, "results --csv", command(t, env, "", "results", "--csv").stdout, ",receipt,receipt_status,receipt_at,", ",blocked,failed:user block,")
	mentions(t, "task", command(t, env, "", "task", "--app", testApp, "t1").stdout, "receipt", "blocked (failed:user block), at ")
	if found := command(t, env, "", "task", "--msgid", "9001"); !strings.Contains(found.stdout, "t1: done") {
		t.Errorf("the message is found twice, or not: %+v", found)
	}
	mentions(t, "status", command(t, env, "", "status", "--batch", "sale").stdout, "receipts: 1 delivered, 1 blocked, 1 still without")
	for args, want := range map[string]string{
		"--receipt accepted":      `"accepted" is not one of [delivered blocked failed] and none`,
		"--receipt none --follow": "has no meaning with --follow",
	} {
		got := command(t, env, "", append([]string{"results"}, strings.Fields(args)...)...)
		if got.status != statusUsage || !strings.Contains(got.stderr, want) {
			t.Errorf("%s: %+v", args, got)
		}
	}
}

// TestFollowedReceipts: what --follow prints of outcomes and of receipts.
func TestFollowedReceipts(t *testing.T) {
	accepted := tasks.Result{Outcome: tasks.OutcomeAccepted, FinishedAt: time.Now()}
	refused := tasks.Result{Outcome: tasks.OutcomeRefused, FinishedAt: time.Now()}
	blocked := tasks.Result{Outcome: tasks.OutcomeAccepted, Receipt: tasks.ReceiptBlocked}
	for _, tt := range []struct {
		c    resultsCommand
		want string
	}{
		{resultsCommand{}, "accepted refused blocked"},
		{resultsCommand{Outcome: []string{"accepted"}}, "accepted"},
		{resultsCommand{Receipt: []string{"blocked"}}, "blocked"},
		{resultsCommand{Receipt: []string{"failed"}}, ""},
		{resultsCommand{Outcome: []string{"refused"}, Receipt: []string{"blocked"}}, "refused blocked"},
	} {
		var got []string
		for name, r := range map[string]tasks.Result{"accepted": accepted, "refused": refused, "blocked": blocked} {
			if tt.c.Follow = true; tt.c.wants(r) {
				got = append(got, name)
			}
		}
		if text := strings.Join(inOrder(got, "accepted", "refused", "blocked"), " "); text != tt.want {
			t.Errorf("%+v: %q, want %q", tt.c, text, tt.want)
		}
	}
}

// inOrder returns those of the words that are in all.
func inOrder(all []string, words ...string) (some []string) {
	for _, word := range words {
		for _, one := range all {
			if one == word {
				some = append(some, word)
			}
		}
	}
	return some
}
