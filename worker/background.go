package worker

import (
	"context"
	"sync"
	"time"
)

// beside owns the goroutines that run beside the lanes. None of them is needed to deliver:
// at the end they are broken off and waited for.
type beside struct {
	ctx     context.Context //nolint:containedctx // the life of what runs here
	end     context.CancelFunc
	running sync.WaitGroup
}

func newBeside() *beside {
	b := &beside{}
	b.ctx, b.end = context.WithCancel(context.Background())
	return b
}

// do runs a function until it returns; it must do so soon after ctx ends.
func (b *beside) do(run func(ctx context.Context)) {
	b.running.Go(func() { run(b.ctx) })
}

// close breaks everything off and waits for it. The lanes and the crew have ended before:
// they are what begins something.
func (b *beside) close() {
	b.end()
	b.running.Wait()
}

// rest waits, and returns false when ctx ends first.
func rest(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
