package worker

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

func always(int, time.Duration) bool { return true }

// TestReceiverLocks: one task at a time has a receiver's lock, in the order of arrival;
// another receiver's is free, and nothing is kept in the end.
func TestReceiverLocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		locks := newReceiverLocks()
		unlock, err := locks.Lock(t.Context(), "a", always)
		if err != nil {
			t.Fatal(err)
		}
		other, err := locks.Lock(t.Context(), "b", always) // another person does not wait
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
			t.Fatal("two have the lock")
		default:
		}
		cancel()
		if err := <-gaveUp; !errors.Is(err, context.Canceled) {
			t.Errorf("gave up with %v", err)
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

// TestDeferredTasksComeBackInTurn: a thousand tasks for one receiver whose sends take 20 ms
// get a place each, 20 ms apart; the timetable is forgotten when it has passed.
func TestDeferredTasksComeBackInTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const send, n = 20 * time.Millisecond, 1000
		locks := newReceiverLocks()
		for range 2 { // its first send tells how long one takes
			unlock, ok := locks.TryLock("a")
			if !ok {
				t.Fatal("the lock is taken")
			}
			if time.Sleep(send); locks.receivers["a"].deferred.IsZero() {
				locks.Defer("a") // keeps what was measured
			}
			unlock()
		}
		time.Sleep(time.Second)
		unlock, _ := locks.TryLock("a")
		for i := range n {
			if got, want := locks.Defer("a"), time.Duration(i+1)*send; got != want {
				t.Fatalf("place %d is in %v, want %v", i, got, want)
			}
		}
		unlock()
		time.Sleep(n*send + 2*sweepReceivers)
		locks.mu.Lock()
		defer locks.mu.Unlock()
		if len(locks.receivers) != 0 || locks.sweeper != nil {
			t.Errorf("%d receivers are kept, sweeper %v", len(locks.receivers), locks.sweeper)
		}
	})
}

// TestDeferralsAreBounded: neither a call that hangs nor a long queue defers a task by
// more than ten minutes.
func TestDeferralsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		locks := newReceiverLocks()
		unlock, _ := locks.TryLock("a")
		locks.Defer("a")
		time.Sleep(time.Minute) // the call hangs
		unlock()
		for i := range 5000 {
			if d := locks.Defer("a"); d > min(longestDeferral, time.Duration(i+2)*longestSend) {
				t.Fatalf("place %d is in %v", i, d)
			}
		}
	})
}

// TestWaitingRoom: with half of the slots free, tasks may wait for their receivers; beyond
// that a sixteenth of the slots may hold such tasks, two for one receiver.
func TestWaitingRoom(t *testing.T) {
	for _, tt := range []struct {
		slots, busy, ahead, waiting int
		want                        bool
	}{
		{64, 32, 20, 31, true},
		{64, 33, 1, 3, true},
		{64, 33, 3, 0, false},
		{64, 33, 1, 4, false},
		{64, 64, 2, 0, true},
		{8, 4, 3, 2, true},
		{8, 5, 1, 0, false},
		{1, 1, 1, 0, false},
	} {
		t.Run(fmt.Sprint(tt), func(t *testing.T) {
			room := waitingRoom{slots: tt.slots}
			room.waiting.Store(int64(tt.waiting))
			got := room.enter(tt.busy, tt.ahead)
			if got != tt.want {
				t.Errorf("entered: %v", got)
			}
			if got {
				room.leave()
			}
			if n := room.waiting.Load(); n != int64(tt.waiting) {
				t.Errorf("%d are left", n)
			}
		})
	}
}
