// Package background runs goroutines that no delivery depends on, such as the sweep, queries of
// quotas and recalls of deferred tasks. Shutdown cancels them and waits for them.
package background

import (
	"context"
	"sync"
	"time"
)

// Group is a set of goroutines with one lifetime.
type Group struct {
	ctx     context.Context //nolint:containedctx // the lifetime of the goroutines
	cancel  context.CancelFunc
	running sync.WaitGroup
}

// NewGroup returns an empty group.
func NewGroup() *Group {
	g := &Group{}
	g.ctx, g.cancel = context.WithCancel(context.Background())
	return g
}

// Go runs a function in a goroutine. The function must return soon after ctx ends.
func (g *Group) Go(run func(ctx context.Context)) {
	g.running.Go(func() { run(g.ctx) })
}

// Close cancels all goroutines and waits for them. No caller may call Go afterwards.
func (g *Group) Close() {
	g.cancel()
	g.running.Wait()
}

// Sleep waits for d. It returns false when ctx ends first.
func Sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
