package api

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/wxcourier/wxcourier/internal/background"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/tasks"
)

// TestRounds: while maxRounds rounds are under way, tasks gather; they are then submitted in the
// order of their arrival, each answered with its own result.
func TestRounds(t *testing.T) {
	rounds, release := make(chan []tasks.Envelope, 100), make(chan struct{})
	group := background.NewGroup()
	t.Cleanup(group.Close)
	s := newSubmitter(group, func(_ context.Context, all []tasks.Envelope) []tasks.SubmitResult {
		rounds <- all
		<-release
		results := make([]tasks.SubmitResult, len(all))
		for i, e := range all {
			results[i] = tasks.SubmitResult{Receipt: tasks.Receipt{ID: e.ID}}
		}
		return results
	})
	var all sync.WaitGroup
	waiting := func() int {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.waiting)
	}
	submit := func(n int) {
		id := fmt.Sprint(n)
		all.Go(func() {
			if r, err := s.Submit(tasks.Envelope{ID: id}); err != nil || r.ID != id {
				t.Errorf("%s: %+v %v", id, r, err)
			}
		})
	}
	for n := range maxRounds {
		submit(n)
		<-rounds
	}
	const more = roundTasks + 10
	for n := range more {
		submit(maxRounds + n)
		redistest.Until(t, 20*time.Second, "the task waits", func() bool { return waiting() == n+1 })
	}
	close(release)
	all.Wait()
	first, second := <-rounds, <-rounds // at the same time
	if len(first) < len(second) {
		first, second = second, first
	}
	if len(first) != roundTasks || len(second) != more-roundTasks {
		t.Errorf("rounds of %d and %d", len(first), len(second))
	}
	for n, e := range slices.Concat(first, second) {
		if want := fmt.Sprint(maxRounds + n); e.ID != want {
			t.Fatalf("%s in place of %s", e.ID, want)
		}
	}
}

// TestTooManyWait: tasks are refused while the bodies of those that wait exceed a limit.
func TestTooManyWait(t *testing.T) {
	release := make(chan struct{})
	group := background.NewGroup()
	t.Cleanup(group.Close)
	s := newSubmitter(group, func(_ context.Context, all []tasks.Envelope) []tasks.SubmitResult {
		<-release
		return make([]tasks.SubmitResult, len(all))
	})
	large := tasks.Envelope{Body: make([]byte, maxWaitingBytes/8)}
	var refused error
	var all sync.WaitGroup
	for n := 0; n < 100 && refused == nil; n++ {
		item := &submission{envelope: large, done: make(chan struct{})}
		if !s.add(item) {
			_, refused = s.Submit(large)
			break
		}
		all.Go(func() { <-item.done })
	}
	if !errors.Is(refused, errBusy) {
		t.Errorf("refused with %v", refused)
	}
	close(release)
	all.Wait()
	if _, err := s.Submit(large); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}
