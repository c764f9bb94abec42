package worker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func always(int, time.Duration) bool { return true }

// TestReceiverLocks: one task at a time has a receiver's lock, in the order of the calls.
// Locks of different receivers are independent, and no receiver is kept at the end.
func TestReceiverLocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		locks := newReceiverLocks(func(string, int) {})
		unlock, err := locks.Lock(t.Context(), "a", always)
		if err != nil {
			t.Fatal(err)
		}
		other, err := locks.Lock(t.Context(), "b", always) // another receiver: no wait
		if err != nil {
			t.Fatal(err)
		}
		other()
		locked := make(chan int)
		for i := range 3 {
			go func() {
				unlock, err := locks.Lock(t.Context(), "a", always)
				if err != nil {
					t.Error(err)
				}
				locked <- i
				unlock()
			}()
			synctest.Wait()
		}
		ctx, cancel := context.WithCancel(t.Context())
		gaveUp := make(chan error)
		go func() {
			_, err := locks.Lock(ctx, "a", always)
			gaveUp <- err
		}()
		synctest.Wait()
		select {
		case <-locked:
			t.Fatal("two tasks have the lock")
		default:
		}
		cancel()
		if err := <-gaveUp; !errors.Is(err, context.Canceled) {
			t.Errorf("a canceled Lock returned %v", err)
		}
		unlock()
		for want := range 3 {
			if got := <-locked; got != want {
				t.Errorf("waiter %d has the lock, want %d", got, want)
			}
		}
		synctest.Wait()
		if len(locks.receivers) != 0 {
			t.Errorf("%d receivers are kept", len(locks.receivers))
		}
	})
}

// TestDeferredTasksAreRecalledInTurn: the sends to one receiver take 20 ms. Its deferred tasks
// are recalled at that pace, the oldest first, so that about one task waits while another is
// sent. Nothing is kept at the end.
func TestDeferredTasksAreRecalledInTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const send, n = 20 * time.Millisecond, 100
		var (
			locks   *receiverLocks
			arrived = make(chan deferral, n)
			ahead   atomic.Int64 // the most tasks that a recalled task found before it
			sends   sync.WaitGroup
		)
		arrive := func(d deferral) {
			sends.Go(func() {
				unlock, err := locks.Lock(t.Context(), "a", func(n int, _ time.Duration) bool {
					ahead.Store(max(ahead.Load(), int64(n)))
					return true
				})
				if err != nil {
					t.Errorf("task %s: %v", d.task, err)
					return
				}
				time.Sleep(send)
				unlock()
			})
			arrived <- d
		}
		locks = newReceiverLocks(func(key string, n int) {
			go func() { // the caller holds the mutex
				for _, d := range locks.takeDeferred(key, n) {
					arrive(d)
				}
			}()
		})
		unlock, _ := locks.TryLock("a")
		for i := range n {
			locks.Defer("a", deferral{task: fmt.Sprint(i), since: time.Now()})
		}
		time.Sleep(send)
		unlock()
		began := time.Now()
		for i := range n {
			if d := <-arrived; d.task != fmt.Sprint(i) {
				t.Fatalf("task %s was recalled as number %d", d.task, i)
			}
		}
		sends.Wait()
		if took, most := time.Since(began), recallAfter+defaultSendTime+n*send*5/4; took > most {
			t.Errorf("it took %v, at most %v", took, most)
		}
		if n := ahead.Load(); n > 3 {
			t.Errorf("%d tasks held or awaited the lock when a task was recalled", n)
		}
		time.Sleep(time.Second)
		locks.mu.Lock()
		defer locks.mu.Unlock()
		if len(locks.receivers) != 0 || locks.deferred != 0 {
			t.Errorf("%d receivers and %d tasks are kept", len(locks.receivers), locks.deferred)
		}
	})
}

// TestDeferralsAreBounded: no delay exceeds maxDeferral, even after a call that hangs or with
// many tasks, and at most maxDeferred tasks are kept.
func TestDeferralsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		locks := newReceiverLocks(func(string, int) {})
		defer locks.close()
		unlock, _ := locks.TryLock("a")
		locks.Defer("a", deferral{since: time.Now()})
		time.Sleep(time.Minute) // the call hangs
		unlock()
		for i := range 5000 {
			if d := locks.Defer("a", deferral{since: time.Now()}); d > min(maxDeferral, 2*time.Duration(i+2)*maxSendTime) {
				t.Fatalf("the delay of task %d is %v", i, d)
			}
		}
		for range maxDeferred {
			locks.Defer("a", deferral{})
		}
		if n := len(locks.receivers["a"].deferred); n != maxDeferred || locks.deferred != n {
			t.Errorf("%d tasks are kept", n)
		}
	})
}

// TestReceiverWaitLimit: while half of the slots are free, any number of tasks may wait for
// their receivers; otherwise a sixteenth of the slots.
func TestReceiverWaitLimit(t *testing.T) {
	for _, tt := range []struct {
		slots, busy, ahead int
		wait               time.Duration
		waiting            int
		want               bool
	}{
		{64, 32, 2, time.Second, 31, true},
		{64, 32, 3, time.Second, 0, false},
		{64, 32, 30, 90 * time.Millisecond, 31, true},
		{64, 33, 1, time.Second, 3, true},
		{64, 33, 1, time.Second, 4, false},
		{64, 64, 2, time.Second, 0, true},
		{8, 4, 1, time.Second, 2, true},
		{8, 5, 1, time.Second, 0, false},
		{1, 1, 1, time.Second, 0, false},
	} {
		t.Run(fmt.Sprint(tt), func(t *testing.T) {
			var room receiverWaitLimit
			room.slots.Store(int64(tt.slots))
			room.waiting.Store(int64(tt.waiting))
			got := room.acquire(tt.busy, tt.ahead, tt.wait)
			if got != tt.want {
				t.Errorf("acquired: %v", got)
			}
			if got {
				room.release()
			}
			if n := room.waiting.Load(); n != int64(tt.waiting) {
				t.Errorf("%d tasks wait after release", n)
			}
		})
	}
}
