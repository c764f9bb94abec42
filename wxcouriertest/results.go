package wxcouriertest

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/wxcourier/wxcourier/tasks"
)

// resultList holds the results that the worker recorded, in their order.
type resultList struct {
	mu      sync.Mutex
	all     []tasks.Result // guarded by mu
	next    int            // guarded by mu; index of the result that Next returns
	changed chan struct{}  // guarded by mu; closed and replaced by add
}

func newResultList() *resultList { return &resultList{changed: make(chan struct{})} }

func (l *resultList) add(r tasks.Result) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, r)
	close(l.changed)
	l.changed = make(chan struct{})
}

// wait calls find, with the lock held, until it finds a result, and again after each new one. It
// returns false after the timeout.
func (l *resultList) wait(timeout time.Duration, find func() (tasks.Result, bool)) (tasks.Result, bool) {
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	for {
		l.mu.Lock()
		r, ok := find()
		changed := l.changed
		l.mu.Unlock()
		if ok {
			return r, true
		}
		select {
		case <-changed:
		case <-timer.C:
			return tasks.Result{}, false
		}
	}
}

// Results returns all results so far, in the order in which they were recorded. A result that
// replaced another (Result.Supersedes) or that followed a redrive stands after the earlier one.
func (k *Kit) Results() []tasks.Result {
	k.results.mu.Lock()
	defer k.results.mu.Unlock()
	return slices.Clone(k.results.all)
}

// Next waits for the next result, and returns each result once, in the order in which they were
// recorded. It fails the test after Options.WaitTimeout.
func (k *Kit) Next() tasks.Result {
	k.t.Helper()
	l := k.results
	r, ok := l.wait(k.opts.WaitTimeout, func() (tasks.Result, bool) {
		if l.next == len(l.all) {
			return tasks.Result{}, false
		}
		l.next++
		return l.all[l.next-1], true
	})
	if !ok {
		k.t.Fatalf("wxcouriertest: no further result within %v", k.opts.WaitTimeout)
	}
	return r
}

// Result waits for the result of a task and returns its latest one, without taking it from
// [Kit.Next]. It fails the test after Options.WaitTimeout, with the state of the task. Where two
// apps have a task with this id, use Client().Wait.
func (k *Kit) Result(id string) tasks.Result {
	k.t.Helper()
	l := k.results
	r, ok := l.wait(k.opts.WaitTimeout, func() (tasks.Result, bool) {
		for _, r := range slices.Backward(l.all) {
			if r.ID == id {
				return r, true
			}
		}
		return tasks.Result{}, false
	})
	if !ok {
		k.t.Fatalf("wxcouriertest: no result of %s within %v: %s", id, k.opts.WaitTimeout, k.stateOf(id))
	}
	return r
}

// stateOf describes a task without a result.
func (k *Kit) stateOf(id string) string {
	for _, app := range k.opts.Apps {
		if r, err := k.client.Result(k.t.Context(), app.ID, id); err == nil {
			return fmt.Sprintf("it is %s, after %d attempts", r.State, r.Attempts)
		}
	}
	return "no task with this id was enqueued"
}
