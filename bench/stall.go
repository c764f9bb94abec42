package main

import (
	"context"
	"sync"
	"time"
)

// stallWatch measures how late a timer of this program fires. While the machine stalls this program,
// it may also stall the workers and the stand-in.
type stallWatch struct {
	cancel  context.CancelFunc
	watcher sync.WaitGroup
	longest time.Duration // used by the watcher alone until stop
}

// stallTick is the interval of the timer.
const stallTick = 5 * time.Millisecond

func watchStalls(ctx context.Context) *stallWatch {
	ctx, stop := context.WithCancel(ctx)
	s := &stallWatch{cancel: stop}
	s.watcher.Go(func() {
		for {
			due := time.Now().Add(stallTick)
			if pause(ctx, stallTick) != nil {
				return
			}
			s.longest = max(s.longest, time.Since(due))
		}
	})
	return s
}

// stop stops the watcher and returns the longest stall in milliseconds. It may be called twice.
func (s *stallWatch) stop() float64 {
	s.cancel()
	s.watcher.Wait()
	return float64(s.longest) / float64(time.Millisecond)
}
