package ingest

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/internal/taskfile"
	"github.com/wxcourier/wxcourier/tasks"
)

// TestOldTasksAreLookedUp: a result that is missing in the stream, and a record that is gone,
// do not keep Run waiting for ever.
func TestOldTasksAreLookedUp(t *testing.T) {
	const app = "wx0123456789abcdef"
	mini, rdb := redistest.Mini(t)
	records := ledger.New(rdb, ledger.Policy{Retention: time.Minute, StreamMax: 1000})
	reader := redis.NewClient(&redis.Options{Addr: mini.Addr()})
	results, lost := 0, 0
	runner := NewRunner(RunnerOptions{
		Options: Options{
			Client: tasks.NewClient(rdb),
			Admit:  func(context.Context, string) error { return nil },
			OnEnqueued: func(_ int, r tasks.Receipt) {
				if r.ID == "gone" {
					mini.HDel(ledger.WaitingKey(app, r.ID), r.ID)
					return
				}
				// The followers are stopped below, as if the stream had lost the entry.
				text := []byte(`{"id":"missed","app":"` + app + `","type":"seccheck:text","outcome":"accepted"}`)
				if _, err := records.Settle(context.Background(), ledger.Ref{App: app, ID: r.ID}, ledger.SettleRequest{Outcome: "accepted", Result: text, Queue: r.Queue}); err != nil {
					t.Error(err)
				}
			},
		},
		Inspector: tasks.NewInspector(rdb), Reader: tasks.NewInspector(rdb), CloseReader: func() { _ = reader.Close() }, Window: 10,
		OnResult: func(context.Context, tasks.Result) { results++ },
		OnError: func(err error) {
			var gone *LostError
			if errors.As(err, &gone) && gone.ID == "gone" {
				lost++
			}
		},
	})
	runner.checkInterval, runner.checkAge = 10*time.Millisecond, 200*time.Millisecond
	task := `{"type":"seccheck:text","app":"` + app + `","id":"ID","body":{"content":"x","version":2,"scene":1,"openid":"o"}}` + "\n"
	text := strings.Replace(task, "ID", "missed", 1) + strings.Replace(task, "ID", "gone", 1)
	runner.stopFollowing() // nothing is read from the stream
	if err := runner.Run(t.Context(), taskfile.New(strings.NewReader(text))); err != nil {
		t.Fatal(err)
	}
	runner.Close(t.Context())
	if results != 1 || lost != 1 || runner.Lost() != 1 || runner.Pending() != 0 {
		t.Errorf("%d results, %d lost", results, lost)
	}
}
