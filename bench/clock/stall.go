package clock

import (
	"context"
	"sync"
	"time"
)

// StallWatch measures how late a timer of this program fires. While the machine stalls this program,
// it may also stall the workers and the stand-in.
type StallWatch struct {
	cancel  context.CancelFunc
	watcher sync.WaitGroup
	longest time.Duration // used by the watcher alone until stop
}

// stallTick is the interval of the timer.
const stallTick = 5 * time.Millisecond

// WatchStalls starts a StallWatch, which runs until Stop or the end of ctx.
func WatchStalls(ctx context.Context) *StallWatch {
	ctx, stop := context.WithCancel(ctx)
	s := &StallWatch{cancel: stop}
	s.watcher.Go(func() {
		for {
			due := time.Now().Add(stallTick)
			if Pause(ctx, stallTick) != nil {
				return
			}
			s.longest = max(s.longest, time.Since(due))
		}
	})
	return s
}

// Stop stops the watcher and returns the longest stall in milliseconds. It may be called twice.
func (s *StallWatch) Stop() float64 {
	s.cancel()
	s.watcher.Wait()
	return float64(s.longest) / float64(time.Millisecond)
}
