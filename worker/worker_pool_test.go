package worker

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

func TestWorkerPool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c workerPool
		var done atomic.Int64
		var callers sync.WaitGroup
		for range 50 {
			callers.Go(func() {
				for range 20 {
					c.run(func() { done.Add(1) })
				}
			})
		}
		callers.Wait()
		if n := done.Load(); n != 1000 {
			t.Errorf("%d of 1,000 were done", n)
		}
		if n := len(c.idle); n < 1 || n > 50 {
			t.Errorf("%d are waiting for work", n)
		}

		// Work that is under way when the crew is dismissed comes to its end.
		begun, finish := make(chan struct{}), make(chan struct{})
		callers.Go(func() {
			c.run(func() { close(begun); <-finish; done.Add(1) })
		})
		<-begun
		callers.Go(c.stop)
		synctest.Wait()
		close(finish)
		callers.Wait() // and no goroutine stays: the bubble would not end
		if n := done.Load(); n != 1001 {
			t.Errorf("the last one was not done: %d", n)
		}
	})
}

// Work that ends its goroutine, as a test's Fatal in a hook does, holds up nobody.
func TestWorkerPoolReplacesAnExitedGoroutine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c workerPool
		for range 3 {
			c.run(runtime.Goexit)
			ran := false
			c.run(func() { ran = true })
			if !ran {
				t.Error("the next work was not done")
			}
		}
		c.stop()
	})
}
