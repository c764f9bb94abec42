package worker_test

import (
	"slices"
	"testing"

	"github.com/hibiken/asynq"

	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/sandbox"
	"github.com/wxcourier/wxcourier/tasks"
)

// TestPlainTasksAreFoundByReceiver: the first run indexes the receiver of a task that a plain asynq
// client enqueued, of every type with one, and the run of a task of a Client does not index it again.
func TestPlainTasksAreFoundByReceiver(t *testing.T) {
	onEach(t, sandbox.Options{}, func(t *testing.T, r *rig) {
		plain := asynq.NewClientFromRedisClient(r.newRedis())
		want := []string{"marked"}
		for _, typ := range []string{tasks.TypeSubscribe, tasks.TypeTextCheck, tasks.TypeScheme} {
			spec, _ := tasks.Lookup(typ)
			task, err := tasks.NewTask(tasks.Envelope{App: app, Type: typ, ID: "plain-" + spec.Kind.String(), Body: []byte(spec.Example)})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := plain.Enqueue(task); err != nil {
				t.Fatal(err)
			}
			if spec.Receiver != "" {
				want = append(want, "plain-"+spec.Kind.String())
			}
		}
		spec, _ := tasks.Lookup(tasks.TypeSubscribe)
		r.submit(tasks.Envelope{Type: tasks.TypeSubscribe, ID: "marked", Body: []byte(spec.Example)})
		r.replica(nil)
		for _, id := range append(want, "plain-link") {
			r.outcome(id)
		}
		found, err := ledger.New(r.newRedis(), ledger.Policy{}).FindOpenID(t.Context(), []string{app}, "OPENID")
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, f := range found {
			got = append(got, f.ID)
		}
		if !slices.Equal(slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want))) {
			t.Errorf("found %v, want %v", got, want)
		}
	})
}
