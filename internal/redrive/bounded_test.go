package redrive_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/internal/redrive"
	"github.com/wxcourier/wxcourier/tasks"
)

const app = "wx0123456789abcdef"

// stall lets a number of commands pass, and the others wait until their time is over.
type stall struct{ left atomic.Int64 }

func (*stall) DialHook(next redis.DialHook) redis.DialHook { return next }

func (s *stall) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if s.left.Add(-1) < 0 {
			<-ctx.Done()
			cmd.SetErr(ctx.Err())
			return ctx.Err()
		}
		return next(ctx, cmd)
	}
}

func (s *stall) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// TestBounded: when the time is over, the counts are of what was done, and repeating goes on with the
// rest; without any, the error is returned.
func TestBounded(t *testing.T) {
	t.Parallel()
	_, rdb := redistest.Mini(t)
	l := ledger.New(rdb, ledger.Policy{Retention: time.Hour, StreamMax: 1000, DeadAfter: time.Minute, LostLimit: 3})
	const n = 100
	for i := range n {
		e := tasks.Envelope{App: app, ID: fmt.Sprint("m", i), Type: tasks.TypeCustom, Body: []byte(`{"touser":"o","msgtype":"text","text":{"content":"x"}}`)}
		if err := e.Prepare(time.Now()); err != nil {
			t.Fatal(err)
		}
		r := tasks.Result{App: app, ID: e.ID, Type: e.Type, State: tasks.StateDone, Outcome: tasks.OutcomeFailed, FinishedAt: time.Now()}
		payload := fmt.Appendf(nil, `{"type":%q,"app":%q,"id":%q,"body":%s}`, e.Type, e.App, e.ID, e.Body)
		if _, err := l.Settle(t.Context(), ledger.Ref{App: app, ID: e.ID}, ledger.SettleRequest{
			Outcome: "failed", Result: r.Encode(), Queue: e.Queue(), Content: ledger.TaskContent{Payload: payload},
		}); err != nil {
			t.Fatal(err)
		}
	}
	options := rdb.(*redis.Client).Options() //nolint:forcetypeassert // redistest.Mini
	stalled := redis.NewClient(options)
	t.Cleanup(func() { _ = stalled.Close() })
	s := &stall{}
	stalled.AddHook(s)
	cfg := redrive.Config{Inspector: tasks.NewInspector(stalled), Filter: tasks.Redrive{Outcomes: []tasks.Outcome{tasks.OutcomeFailed}}}
	s.left.Store(150)
	done, more, err := redrive.Bounded(t.Context(), 2*time.Second, cfg, []string{app}, nil)
	if err != nil || !more || done.Redriven == 0 || done.Redriven == n {
		t.Fatalf("%+v, more %v, %v", done, more, err)
	}
	s.left.Store(0)
	if _, more, err := redrive.Bounded(t.Context(), time.Millisecond, cfg, []string{app}, nil); err == nil || more {
		t.Errorf("of a Redis that does not answer: more %v, %v", more, err)
	}
	cfg.Inspector = tasks.NewInspector(rdb)
	rest, more, err := redrive.Bounded(t.Context(), time.Minute, cfg, []string{app}, nil)
	if err != nil || more || done.Redriven+rest.Redriven+rest.Resumed < n {
		t.Errorf("%+v, then %+v, more %v, %v", done, rest, more, err)
	}
}
