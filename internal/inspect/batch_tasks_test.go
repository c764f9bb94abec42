package inspect_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/inspect"
	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/tasks"
)

// TestBatchTasks: a batch lists each of its tasks once, with its result if it has ended; and tells
// in which queues the open ones are.
func TestBatchTasks(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		const batch, n = "spring", 1300 // several pages
		client, records := tasks.NewClient(rdb), ledger.New(rdb, ledger.Policy{Retention: time.Hour})
		var envelopes []tasks.Envelope
		for i := range n {
			e := tasks.Envelope{App: mine, Type: tasks.TypeTextCheck, ID: fmt.Sprint("t", i), Batch: batch, Body: []byte(`{"content":"x","version":2,"scene":1,"openid":"o"}`)}
			if i%4 == 0 {
				e.Priority = tasks.Bulk
			}
			envelopes = append(envelopes, e)
		}
		for _, r := range client.SubmitMany(t.Context(), envelopes) {
			if r.Err != nil {
				t.Fatal(r.Err)
			}
		}
		for _, id := range []string{"t1", "t2"} {
			result := tasks.Result{ID: id, App: mine, Type: tasks.TypeTextCheck, Batch: batch, State: tasks.StateDone, Outcome: tasks.OutcomeRejected, ErrCode: 47003}
			_, err := records.Settle(t.Context(), ledger.Ref{App: mine, ID: id, Batch: batch}, ledger.SettleRequest{
				Outcome: string(result.Outcome), Result: result.Encode(), Queue: tasks.QueueName(mine, tasks.TypeTextCheck, tasks.Urgent),
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := rdb.Del(t.Context(), ledger.TaskKey(mine, "t2")).Err(); err != nil { // its retention is over
			t.Fatal(err)
		}
		reader := inspect.NewReader(rdb, nil, nil)
		states, ids := make(map[tasks.State]int), make(map[string]bool)
		for r, err := range reader.BatchTasks(t.Context(), mine, batch) {
			if err != nil {
				t.Fatal(err)
			}
			states[r.State]++
			ids[r.ID] = true
			if r.Batch != batch || r.App != mine || r.ID == "t1" && r.ErrCode != 47003 || r.ID == "t3" && r.Type != tasks.TypeTextCheck {
				t.Errorf("%+v", r)
			}
		}
		if len(ids) != n || states[tasks.StateDone] != 1 || states[tasks.StateWaiting] != n-2 || states[""] != 1 {
			t.Errorf("%d ids, states %v", len(ids), states)
		}
		for _, err := range reader.BatchTasks(t.Context(), mine, "none") {
			if !errors.Is(err, tasks.ErrNotFound) {
				t.Errorf("an unknown batch: %v", err)
			}
		}
		queues, err := reader.BatchQueues(t.Context(), mine, batch)
		urgent, bulk := queues[inspect.Queue{Type: tasks.TypeTextCheck}], queues[inspect.Queue{Type: tasks.TypeTextCheck, Bulk: true}]
		if err != nil || len(queues) != 2 || bulk <= 0 || urgent <= bulk || urgent+bulk < 0.999 || urgent+bulk > 1.001 {
			t.Errorf("queues %v, %v", queues, err)
		}
		if queues, err := reader.BatchQueues(t.Context(), mine, "none"); err != nil || len(queues) != 0 {
			t.Errorf("an unknown batch: %v, %v", queues, err)
		}
	})
}
