package worker_test

import (
	"errors"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/wxcourier/wxcourier/internal/hold"
	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/sandbox"
	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/worker"
)

// TestPlaintextScheme: a plaintext scheme is made without a call, a token or quota, while the lane of
// the schemes that need a call is held, outside of its hours and out of quota. It ends like any task.
func TestPlaintextScheme(t *testing.T) {
	onEach(t, sandbox.Options{}, func(t *testing.T, r *rig) {
		plain := func(id string) tasks.Envelope {
			return tasks.Envelope{
				Type: tasks.TypeScheme, App: app, ID: id, Batch: "b", Plaintext: true,
				Body: []byte(`{"jump_wxa":{"path":"pages/index/index","query":"id=` + id + `"}}`),
			}
		}
		if _, err := hold.NewStore(r.rdb).Set(t.Context(), hold.Hold{App: app, Scope: tasks.TypeScheme, Reason: "quota_day", Until: time.Now().Add(time.Hour)}); err != nil {
			t.Fatal(err)
		}
		now := time.Date(2026, 11, 21, 3, 0, 0, 0, time.UTC) // 11:00 in Shanghai
		r.hours, r.clock = worker.Hours{"*": "12:00-13:00"}, func() time.Time { return now }
		call := plain("call")
		call.Plaintext = false
		r.submit(call)
		expired, canceled, bulk := plain("expired"), plain("canceled"), plain("bulk")
		expired.NotAfter, bulk.Priority = now.Add(-time.Second), tasks.Bulk
		for _, e := range []tasks.Envelope{plain("plain"), bulk, expired, canceled} {
			r.submit(e)
		}
		if n, err := r.client.Cancel(t.Context(), app, "canceled"); err != nil || n.Canceled != 1 {
			t.Fatalf("%+v, %v", n, err)
		}
		foreign, err := tasks.NewTask(plain("foreign"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := asynq.NewClientFromRedisClient(r.rdb).Enqueue(foreign); err != nil {
			t.Fatal(err)
		}
		if got, err := r.client.Result(t.Context(), app, "plain"); err != nil || got.Type != tasks.TypeScheme || got.WaitsFor != tasks.WaitsForTurn {
			t.Errorf("before the replica starts: %+v, %v", got, err)
		}
		r.replica(map[string]ratelimit.Limit{tasks.TypeScheme: {PerSecond: 1}})
		for id, want := range map[string]tasks.Outcome{
			"plain": tasks.OutcomeAccepted, "bulk": tasks.OutcomeAccepted, "foreign": tasks.OutcomeAccepted,
			"expired": tasks.OutcomeExpired, "canceled": tasks.OutcomeCanceled,
		} {
			r.eventually(id+" is known", func() bool { // a plain asynq client makes no mark
				_, err := r.client.Result(t.Context(), app, id)
				return err == nil
			})
			got, link := r.outcome(id), ""
			if want == tasks.OutcomeAccepted {
				link = "weixin://dl/business/?appid=" + app + "&path=pages/index/index&query=id%3D" + id
			}
			if got.Outcome != want || got.OpenLink != link || got.Attempts != 0 || got.Type != tasks.TypeScheme || got.ErrCode != 0 || got.Batch != "b" || got.EnqueuedAt.IsZero() {
				t.Errorf("%s: %+v", id, got)
			}
		}
		if got, err := r.client.Result(t.Context(), app, "call"); err != nil || got.Outcome != "" || got.WaitsFor != tasks.WaitsForHold {
			t.Errorf("the scheme that needs a call: %+v, %v", got, err)
		}
		if calls := r.wx.Calls(sandbox.Filter{}); len(calls) > 0 {
			t.Errorf("%d calls to WeChat: %s", len(calls), calls[0].Path)
		}
		if c, err := r.client.Batch(t.Context(), app, "b"); err != nil || c["accepted"] != 3 || c["done"] != 5 || c["total"] != 6 {
			t.Errorf("batch %v, %v", c, err)
		}
		again := plain("plain")
		again.Plaintext = false
		if receipt, err := r.client.Submit(t.Context(), again); !errors.Is(err, tasks.ErrIDInUse) {
			t.Errorf("the id with a call counts as the same task: %+v, %v", receipt, err)
		}
	})
}
