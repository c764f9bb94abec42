package workerpool

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

func TestWorkerPool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p Pool
		var done atomic.Int64
		var callers sync.WaitGroup
		for range 50 {
			callers.Go(func() {
				for range 20 {
					p.Run(func() { done.Add(1) })
				}
			})
		}
		callers.Wait()
		if n := done.Load(); n != 1000 {
			t.Errorf("%d of 1,000 functions ran", n)
		}
		if n := len(p.idle); n < 1 || n > 50 {
			t.Errorf("%d idle workers", n)
		}

		// A function that runs when the pool is stopped finishes.
		begun, finish := make(chan struct{}), make(chan struct{})
		callers.Go(func() {
			p.Run(func() { close(begun); <-finish; done.Add(1) })
		})
		<-begun
		callers.Go(p.Stop)
		synctest.Wait()
		close(finish)
		callers.Wait() // the bubble of synctest ends only when no goroutine is left
		if n := done.Load(); n != 1001 {
			t.Errorf("the last function did not finish: %d", n)
		}
	})
}

// TestWorkerPoolReplacesAnExitedGoroutine: after a function that ends its goroutine, as
// testing.T.Fatal in a hook does, the pool runs further functions.
func TestWorkerPoolReplacesAnExitedGoroutine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p Pool
		for range 3 {
			p.Run(runtime.Goexit)
			ran := false
			p.Run(func() { ran = true })
			if !ran {
				t.Error("the next function did not run")
			}
		}
		p.Stop()
	})
}
