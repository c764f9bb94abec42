package worker

import (
	"context"
	"sync"
	"time"
)

// background owns the goroutines that run beside the lanes. None of them is needed to deliver:
// at the end they are broken off and waited for.
type background struct {
	ctx     context.Context //nolint:containedctx // the life of what runs here
	cancel     context.CancelFunc
	running sync.WaitGroup
}

func newBackground() *background {
	b := &background{}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	return b
}

// Go runs a function until it returns; it must do so soon after ctx ends.
func (b *background) Go(run func(ctx context.Context)) {
	b.running.Go(func() { run(b.ctx) })
}

// close breaks everything off and waits for it. The lanes and the crew have ended before:
// they are what begins something.
func (b *background) close() {
	b.cancel()
	b.running.Wait()
}

// sleep waits, and returns false when ctx ends first.
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
