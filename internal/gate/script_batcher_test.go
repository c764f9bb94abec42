package gate

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/redistest"
)

// trips counts the round trips of a client, and can block single commands.
type trips struct {
	alone, shared atomic.Int64
	gate          chan struct{} // single commands wait until it is closed; nil: no wait
}

func (*trips) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h *trips) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() == "evalsha" { // not the commands that open a connection
			h.alone.Add(1)
			if h.gate != nil {
				<-h.gate
			}
		}
		return next(ctx, cmd)
	}
}

func (h *trips) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if cmds[0].Name() == "evalsha" {
			h.shared.Add(1)
		}
		return next(ctx, cmds)
	}
}

// hookedClient returns a client with the replica's hook, and below that hook one that counts
// the round trips.
func hookedClient(t *testing.T) (*redis.Client, *Hook, *trips) {
	t.Helper()
	m, _ := redistest.Mini(t)
	rdb := redis.NewClient(&redis.Options{Addr: m.Addr()})
	t.Cleanup(func() { _ = rdb.Close() })
	hook, count := NewHook(rdb), &trips{}
	rdb.AddHook(hook)
	rdb.AddHook(count)
	return rdb, hook, count
}

var double = redis.NewScript(`
if ARGV[1] == "bad" then return redis.error_reply("ERR bad") end
return tonumber(ARGV[1]) * 2`)

// TestScriptsShareRoundTrips: calls that arrive during a round trip are sent together after
// it, and each caller gets its own reply or error.
func TestScriptsShareRoundTrips(t *testing.T) {
	t.Parallel()
	rdb, hook, count := hookedClient(t)
	if err := double.Load(t.Context(), rdb).Err(); err != nil {
		t.Fatal(err)
	}
	count.gate = make(chan struct{})
	const callers = 40
	var all sync.WaitGroup
	for i := range callers {
		all.Go(func() {
			if i == 7 {
				if err := double.Run(t.Context(), rdb, nil, "bad").Err(); err == nil || err.Error() != "ERR bad" {
					t.Errorf("the error of a failing script: %v", err)
				}
				return
			}
			if got, err := double.Run(t.Context(), rdb, nil, i).Int(); err != nil || got != 2*i {
				t.Errorf("%d: %d, %v", i, got, err)
			}
		})
	}
	redistest.Until(t, 5*time.Second, "all calls wait for the first", func() bool {
		hook.batcher.mu.Lock()
		defer hook.batcher.mu.Unlock()
		return len(hook.batcher.waiting) == callers-1
	})
	close(count.gate)
	all.Wait()
	if count.alone.Load() != 1 || count.shared.Load() != 1 {
		t.Errorf("%d calls alone and %d together, want 1 and 1", count.alone.Load(), count.shared.Load())
	}
	if hook.batcher.inFlight != 0 || len(hook.batcher.waiting) > 0 {
		t.Errorf("left: %d round trips, %d waiting calls", hook.batcher.inFlight, len(hook.batcher.waiting))
	}
}

// TestABatchedCallMayBeCanceled: a caller whose context ends while it waits returns, and the
// other calls are made.
func TestABatchedCallMayBeCanceled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var s scriptBatcher
		free := make(chan struct{})
		first := make(chan error, 1)
		go func() {
			first <- s.do(t.Context(), redis.NewCmd(t.Context(), "evalsha"), func() error { <-free; return nil })
		}()
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		second := make(chan error, 1)
		go func() { second <- s.do(ctx, redis.NewCmd(ctx, "evalsha"), nil) }()
		synctest.Wait()
		cancel()
		if err := <-second; !errors.Is(err, context.Canceled) {
			t.Errorf("the canceled call returned %v", err)
		}
		close(free)
		if err := <-first; err != nil {
			t.Error(err)
		}
		if s.inFlight != 0 || len(s.waiting) > 0 {
			t.Errorf("left: %d round trips, %d waiting calls", s.inFlight, len(s.waiting))
		}
	})
}

// TestADeadConnectionBlocksNoOtherCall: calls do not wait for a call that gets no reply.
func TestADeadConnectionBlocksNoOtherCall(t *testing.T) {
	t.Parallel()
	rdb, hook, _ := hookedClient(t)
	if err := double.Load(t.Context(), rdb).Err(); err != nil {
		t.Fatal(err)
	}
	dead := make(chan struct{})
	var stuck sync.WaitGroup
	stuck.Go(func() {
		_ = hook.batcher.do(context.Background(), redis.NewCmd(context.Background(), "evalsha"), func() error { <-dead; return nil })
	})
	redistest.Until(t, 5*time.Second, "a call is under way", func() bool {
		hook.batcher.mu.Lock()
		defer hook.batcher.mu.Unlock()
		return hook.batcher.inFlight == 1
	})
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			if got, err := double.Run(t.Context(), rdb, nil, i).Int(); err != nil || got != 2*i {
				t.Errorf("%d: %d, %v", i, got, err)
			}
		})
	}
	all.Wait()
	close(dead)
	stuck.Wait()
	if hook.batcher.inFlight != 0 {
		t.Errorf("%d round trips are still counted", hook.batcher.inFlight)
	}
}
