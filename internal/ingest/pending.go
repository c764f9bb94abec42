package ingest

import (
	"sync"
	"time"

	"github.com/wxcourier/wxcourier/tasks"
)

// taskKey identifies a task.
type taskKey struct{ app, id string }

func keyOf(e tasks.Envelope) taskKey { return taskKey{e.App, e.ID} }

// pending is the set of tasks that have no outcome yet.
type pending struct {
	mu    sync.Mutex
	tasks map[taskKey]time.Time // guarded by mu; when each was added
}

func newPending() *pending { return &pending{tasks: make(map[taskKey]time.Time)} }

func (p *pending) add(k taskKey) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tasks[k] = time.Now()
}

// remove removes a task and reports whether it was pending.
func (p *pending) remove(k taskKey) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, ok := p.tasks[k]
	delete(p.tasks, k)
	return ok
}

func (p *pending) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.tasks)
}

// olderThan returns at most limit tasks that have been pending for at least age.
func (p *pending) olderThan(age time.Duration, limit int) []taskKey {
	p.mu.Lock()
	defer p.mu.Unlock()
	var old []taskKey
	for k, since := range p.tasks {
		if len(old) == limit {
			break
		}
		if time.Since(since) >= age {
			old = append(old, k)
		}
	}
	return old
}
