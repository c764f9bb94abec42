package gate

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// TestAdmission: lanes wait while a server prepares too many tasks, until enough of them have
// ended. Tasks that take long do not count.
func TestAdmission(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &admission{limit: 8}
		var runs []*StartedTask
		for range 8 {
			if a.room(time.Now()) < 1 || !a.await(t.Context()) {
				t.Fatal("full too early")
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
			t.Fatalf("full: room for %d tasks, %d lanes admitted", room, len(admitted))
		}
		cancel()
		if <-admitted {
			t.Error("a canceled lane was admitted")
		}
		a.end(runs[0])
		a.end(runs[0])
		a.end(nil)
		if room := a.room(time.Now()); room != 0 {
			t.Errorf("room for %d tasks above the low-water mark", room)
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
			t.Error("not full again")
		}
		time.Sleep(preparingFor) // now all tasks take long
		if room := a.room(time.Now()); room != 8 {
			t.Errorf("room for %d tasks while only slow ones run, want 8", room)
		}
		if !<-admitted {
			t.Error("not admitted")
		}
		if a.hasWaiting() || len(a.started) > 0 {
			t.Errorf("left: %d tasks, waiting lanes: %v", len(a.started), a.hasWaiting())
		}
		a.end(runs[1]) // no longer counted: changes nothing
		if room := a.room(time.Now()); room != 8 {
			t.Errorf("room for %d tasks, want 8", room)
		}
	})
}
