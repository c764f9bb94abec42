package main

import (
	"context"
	"sync"
	"time"
)

// stallWatch watches how late this program's own timer fires: what the machine kept from the
// program for so long, it may have kept from the workers and from the stand-in as well.
type stallWatch struct {
	cancel  context.CancelFunc
	watcher sync.WaitGroup
	longest time.Duration // by the watcher alone until end
}

// stallTick is how often it looks.
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

// stop ends the watching, and tells the longest stall, in milliseconds.
func (s *stallWatch) stop() float64 {
	s.cancel()
	s.watcher.Wait()
	return float64(s.longest) / float64(time.Millisecond)
}
