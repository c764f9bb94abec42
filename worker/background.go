package worker

import (
	"context"
	"sync"
	"time"
)

// background runs the goroutines that no delivery depends on: the sweep, quota queries,
// recalls of deferred tasks. Shutdown cancels them and waits for them.
type background struct {
	ctx     context.Context //nolint:containedctx // the lifetime of the goroutines
	cancel  context.CancelFunc
	running sync.WaitGroup
}

func newBackground() *background {
	b := &background{}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	return b
}

// Go runs a function in a goroutine. The function must return soon after ctx ends.
func (b *background) Go(run func(ctx context.Context)) {
	b.running.Go(func() { run(b.ctx) })
}

// close cancels all goroutines and waits for them. The lanes and the worker pool must have
// stopped before, since they call Go.
func (b *background) close() {
	b.cancel()
	b.running.Wait()
}

// sleep waits for d. It returns false when ctx ends first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
