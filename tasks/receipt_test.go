package tasks_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/tasks"
)

const receiptMsgID = "3395159288267931652"

var receiptTime = time.Date(2026, 12, 1, 0, 1, 0, 0, time.UTC)

// accept records an accepted message, and returns its result.
func accept(t *testing.T, rdb redis.UniversalClient, id, batch string) tasks.Result {
	t.Helper()
	r := tasks.Result{
		ID: id, App: clientApp, Type: tasks.TypeSubscribe, Batch: batch, State: tasks.StateDone, Outcome: tasks.OutcomeAccepted, ErrMsg: "ok",
		Attempts: 1, MsgID: receiptMsgID, EnqueuedAt: receiptTime.Add(-time.Hour), FinishedAt: receiptTime.Add(-time.Minute),
	}
	_, err := ledger.New(rdb, ledger.Policy{Retention: time.Hour}).Settle(t.Context(), ledger.Ref{App: clientApp, ID: id, Batch: batch}, ledger.SettleRequest{
		Outcome: string(r.Outcome), Result: r.Encode(), Queue: tasks.QueueName(clientApp, r.Type, tasks.Urgent),
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// receive adds a receipt to a task as the gateway does, and its entry to the stream.
func receive(t *testing.T, rdb redis.UniversalClient, r tasks.Result, receipt tasks.DeliveryReceipt, status string) {
	t.Helper()
	entry := tasks.Result{
		ID: r.ID, App: r.App, Type: r.Type, Batch: r.Batch, State: r.State, Outcome: r.Outcome, MsgID: r.MsgID, Generation: r.Generation,
		Receipt: receipt, ReceiptStatus: status, ReceiptAt: receiptTime,
	}
	rdb.HSet(t.Context(), ledger.TaskKey(r.App, r.ID), "receipt", fmt.Sprintf("%s %d %s", receipt, receiptTime.Unix(), status))
	if err := rdb.XAdd(t.Context(), &redis.XAddArgs{Stream: ledger.StreamKey(r.App), Values: []any{"result", entry.Encode()}}).Err(); err != nil {
		t.Fatal(err)
	}
}

// TestLookupsHaveTheReceipt: a lookup returns the outcome with the receipt that came later.
func TestLookupsHaveTheReceipt(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		client, ctx := tasks.NewClient(rdb), t.Context()
		accepted := accept(t, rdb, "a", "")
		receive(t, rdb, accepted, tasks.ReceiptBlocked, "failed:user block")
		want := accepted
		want.Receipt, want.ReceiptStatus, want.ReceiptAt = tasks.ReceiptBlocked, "failed:user block", receiptTime
		for name, look := range map[string]func() (tasks.Result, error){
			"Result":   func() (tasks.Result, error) { return client.Result(ctx, clientApp, "a") },
			"Recorded": func() (tasks.Result, error) { return client.Recorded(ctx, clientApp, "a") },
			"Wait":     func() (tasks.Result, error) { return client.Wait(ctx, clientApp, "a") },
		} {
			if got, err := look(); err != nil || string(got.Encode()) != string(want.Encode()) || got.IsReceipt() {
				t.Errorf("%s: %s, %v", name, got.Encode(), err)
			}
		}
	})
}

// TestStreamsHaveReceipts: in the stream a receipt is a result of its own, which no redrive takes for an
// outcome; AddReceipts adds it to the outcome, but not to that of another generation.
func TestStreamsHaveReceipts(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		inspector, ctx := tasks.NewInspector(rdb), t.Context()
		first, second := accept(t, rdb, "a", ""), accept(t, rdb, "b", "")
		receive(t, rdb, first, tasks.ReceiptDelivered, "success")
		receive(t, rdb, second, tasks.ReceiptFailed, "failed: system failed")
		var all, outcomes []tasks.Result
		for r, err := range inspector.Results(ctx, clientApp, "", false) {
			if err != nil {
				t.Fatal(err)
			}
			if all = append(all, r); !r.IsReceipt() {
				outcomes = append(outcomes, r)
			}
		}
		if len(all) != 4 || len(outcomes) != 2 || !all[2].IsReceipt() || all[2].ID != "a" || all[2].Outcome != tasks.OutcomeAccepted {
			t.Fatalf("the stream has %+v", all)
		}
		other := outcomes[1]
		other.Generation = 3
		outcomes = append(outcomes, other, tasks.Result{App: clientApp, ID: "c", Type: tasks.TypeScheme, Outcome: tasks.OutcomeAccepted})
		count := redistest.Count(rdb)
		var err error
		_, trips := count.During(func() { err = inspector.AddReceipts(ctx, outcomes) })
		var got []tasks.DeliveryReceipt
		for _, r := range outcomes {
			got = append(got, r.Receipt)
		}
		if want := []tasks.DeliveryReceipt{tasks.ReceiptDelivered, tasks.ReceiptFailed, "", ""}; err != nil || !slices.Equal(got, want) || trips != 1 {
			t.Errorf("receipts %q in %d round trips, %v", got, trips, err)
		}
		for id, err := range inspector.RedriveCandidates(ctx, clientApp, tasks.Redrive{Outcomes: tasks.Redrivable()}) {
			t.Errorf("a redrive takes %s, %v", id, err)
		}
	})
}

// TestConsumersGetReceipts: as results of their own, unless the consumer does not want them.
func TestConsumersGetReceipts(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		receive(t, rdb, accept(t, rdb, "a", ""), tasks.ReceiptDelivered, "success")
		accept(t, rdb, "b", "")
		var mu sync.Mutex
		got := make(map[string][]string)
		take := func(group string) func(tasks.Result) error {
			return func(r tasks.Result) error {
				mu.Lock()
				defer mu.Unlock()
				got[group] = append(got[group], fmt.Sprint(r.ID, " ", r.Receipt, " ", r.IsReceipt()))
				return nil
			}
		}
		consume(t, rdb, tasks.ConsumerConfig{Group: "all"}, take("all"))
		consume(t, rdb, tasks.ConsumerConfig{Group: "outcomes", NoReceipts: true}, take("outcomes"))
		redistest.Until(t, 20*time.Second, "both groups", func() bool {
			mu.Lock()
			defer mu.Unlock()
			return len(got["all"]) == 3 && len(got["outcomes"]) == 2
		})
		mu.Lock()
		defer mu.Unlock()
		if want := []string{"a  false", "a delivered true", "b  false"}; !slices.Equal(got["all"], want) {
			t.Errorf("all: %q", got["all"])
		}
		if want := []string{"a  false", "b  false"}; !slices.Equal(got["outcomes"], want) {
			t.Errorf("outcomes: %q", got["outcomes"])
		}
	})
}

// TestBatchCountsReceipts: the counters of receipts are among those of a batch.
func TestBatchCountsReceipts(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		client := tasks.NewClient(rdb)
		if _, err := client.Batch(t.Context(), clientApp, "sale"); !errors.Is(err, tasks.ErrNotFound) {
			t.Fatal(err)
		}
		accept(t, rdb, "a", "sale")
		rdb.HIncrBy(t.Context(), ledger.BatchKey(clientApp, "sale"), "receipt:delivered", 1)
		counts, err := client.Batch(t.Context(), clientApp, "sale")
		if err != nil || counts["receipt:delivered"] != 1 || counts["accepted"] != 1 {
			t.Errorf("%v, %v", counts, err)
		}
	})
}
