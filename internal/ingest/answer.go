package ingest

import (
	"errors"
	"fmt"
	"sync"

	"github.com/wxcourier/wxcourier/tasks"
)

// An Answer says what became of one line.
type Answer struct {
	Line int // counted from 1
	// App and ID are those of the task, as far as the line has valid ones.
	App, ID string
	// Receipt is set if Err is nil.
	Receipt tasks.Receipt
	// Err is why the line was not enqueued: a fault of the line, or ErrNotEnqueued.
	Err error
}

// ErrNotEnqueued means that a line is not known to be enqueued, because Redis did not answer
// or the run was interrupted. It is safe to repeat the line.
var ErrNotEnqueued = errors.New("not enqueued; repeat the line")

// answered is an answer with its position among all answers.
type answered struct {
	seq int
	Answer
}

// answered returns the answer to a task.
func (t task) answered(r tasks.Receipt, err error) answered {
	a := Answer{Line: t.Line, Receipt: r, Err: err}
	if tasks.ValidApp(t.Envelope.App) {
		a.App = t.Envelope.App
	}
	if tasks.ValidID(t.Envelope.ID) {
		a.ID = t.Envelope.ID
	}
	return answered{t.seq, a}
}

// answerUnsent answers tasks that were not submitted, or for which Redis did not answer; err
// is Redis' error, or nil.
func (e *enqueuer) answerUnsent(unsent []task, err error) {
	if e.answers == nil {
		return
	}
	reason := ErrNotEnqueued
	if err != nil {
		reason = fmt.Errorf("%w: %w", ErrNotEnqueued, err)
	}
	all := make([]answered, len(unsent))
	for i, t := range unsent {
		all[i] = t.answered(tasks.Receipt{}, reason)
	}
	e.answers.add(all...)
}

// maxUnanswered is how many lines the reader may be ahead of the first one without an answer.
const maxUnanswered = 20_000

// answerQueue passes answers on in the order of their lines. Chunks are submitted at the same
// time, so an answer may have to wait for those of earlier lines. A nil answerQueue ignores
// answers.
type answerQueue struct {
	deliver func([]Answer) // called with mu held

	mu      sync.Mutex
	moved   sync.Cond      // on mu; next has grown
	count   int            // guarded by mu; positions given out
	next    int            // guarded by mu; the position of the next answer to deliver
	waiting map[int]Answer // guarded by mu; by position, all after next
}

func newAnswerQueue(deliver func([]Answer)) *answerQueue {
	if deliver == nil {
		return nil
	}
	q := &answerQueue{deliver: deliver, waiting: make(map[int]Answer)}
	q.moved.L = &q.mu
	return q
}

// reserve returns the position of the next line's answer. It waits while too many answers are
// missing.
func (q *answerQueue) reserve() int {
	if q == nil {
		return 0
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.count-q.next >= maxUnanswered {
		q.moved.Wait()
	}
	q.count++
	return q.count - 1
}

// add delivers answers, and those that waited for them, in the order of their positions.
func (q *answerQueue) add(answers ...answered) {
	if q == nil || len(answers) == 0 {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, a := range answers {
		q.waiting[a.seq] = a.Answer
	}
	var ready []Answer
	for {
		a, ok := q.waiting[q.next]
		if !ok {
			break
		}
		delete(q.waiting, q.next)
		q.next++
		ready = append(ready, a)
	}
	if len(ready) > 0 {
		q.deliver(ready)
		q.moved.Signal()
	}
}

// inFlight is the set of ids that are being submitted, so that chunks which are submitted at
// the same time have no id in common. A nil inFlight accepts every id.
type inFlight struct {
	mu      sync.Mutex
	removed sync.Cond       // on mu; ids were removed
	chunks  map[taskKey]int // guarded by mu; the position of the first task in the id's chunk
}

func newInFlight() *inFlight {
	f := &inFlight{chunks: make(map[taskKey]int)}
	f.removed.L = &f.mu
	return f
}

// add adds an id to a chunk. It returns false if the id is in another chunk.
func (f *inFlight) add(key taskKey, chunk int) bool {
	if f == nil {
		return true
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if other, ok := f.chunks[key]; ok {
		return other == chunk
	}
	f.chunks[key] = chunk
	return true
}

// wait waits until an id is in no chunk.
func (f *inFlight) wait(key taskKey) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for {
		if _, ok := f.chunks[key]; !ok {
			return
		}
		f.removed.Wait()
	}
}

// remove removes the ids of a chunk.
func (f *inFlight) remove(chunk []task) {
	if f == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, t := range chunk {
		delete(f.chunks, keyOf(t.Envelope))
	}
	f.removed.Broadcast()
}
