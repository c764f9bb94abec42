package worker

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// TestAdmission: a server that has begun too many tasks lets its lanes wait until some have
// ended, and does not wait for those that take long.
func TestAdmission(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &admission{limit: 8}
		var runs []*startedTask
		for range 8 {
			if a.room(time.Now()) < 1 || !a.await(t.Context()) {
				t.Fatal("it is not full")
			}
			runs = append(runs, a.begin(time.Now()))
		}
		admitted := make(chan bool, 3)
		for range 3 {
			go func() { admitted <- a.await(t.Context()) }()
		}
		ctx, cancel := context.WithCancel(t.Context())
		go func() { admitted <- a.await(ctx) }()
		synctest.Wait()
		if room := a.room(time.Now()); room != 0 || len(admitted) > 0 {
			t.Fatalf("room for %d tasks, %d lanes go on", room, len(admitted))
		}
		cancel()
		if <-admitted {
			t.Error("a lane that closes goes on")
		}
		a.end(runs[0])
		a.end(runs[0])
		a.end(nil)
		if room := a.room(time.Now()); room != 0 {
			t.Errorf("room for %d tasks above the low mark", room)
		}
		a.end(runs[5])
		for range 2 {
			if !<-admitted {
				t.Error("not admitted")
			}
		}
		for range 2 {
			a.begin(time.Now())
		}
		if a.room(time.Now()) != 0 {
			t.Error("it is full again")
		}
		time.Sleep(preparingFor) // all of them take long
		if room := a.room(time.Now()); room != 8 {
			t.Errorf("room for %d tasks beside slow ones", room)
		}
		if !<-admitted {
			t.Error("not admitted")
		}
		if a.hasWaiting() || len(a.started) > 0 {
			t.Error("something is left")
		}
		a.end(runs[1]) // late
		if room := a.room(time.Now()); room != 8 {
			t.Errorf("room for %d tasks", room)
		}
	})
}
