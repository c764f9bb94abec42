package api

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/wxcourier/wxcourier/internal/background"
	"github.com/wxcourier/wxcourier/tasks"
)

const (
	// maxRounds is the number of rounds at the same time: one is prepared while Redis works on
	// the other.
	maxRounds = 2
	// roundTasks and roundBytes are the maximum size of a round, which is that of one pipeline of
	// tasks.Client. A single body may exceed roundBytes.
	roundTasks = 500
	roundBytes = 4 << 20
	// maxWaitingBytes limits the bodies of the tasks that wait for a round.
	maxWaitingBytes = 64 << 20
	// roundTimeout limits a round.
	roundTimeout = 10 * time.Second
)

// errBusy means that too many tasks wait for a round.
var errBusy = errors.New("api: too many tasks wait to be enqueued")

// submitter gathers the tasks of concurrent requests into rounds. It does not wait for a round to
// fill: a task is submitted at once unless maxRounds rounds are under way, and those that arrive
// meanwhile are the next round. With one request at a time each round has one task; with many,
// Redis gets few pipelines in place of many commands.
type submitter struct {
	background *background.Group
	submit     func(context.Context, []tasks.Envelope) []tasks.SubmitResult

	mu      sync.Mutex
	waiting []*submission // guarded by mu; in the order of their arrival
	bytes   int           // guarded by mu; of the bodies of waiting
	rounds  int           // guarded by mu; under way
}

// submission is a task that waits for a round, or is in one.
type submission struct {
	envelope tasks.Envelope
	result   tasks.SubmitResult
	done     chan struct{} // closed when result is set
}

func newSubmitter(group *background.Group, submit func(context.Context, []tasks.Envelope) []tasks.SubmitResult) *submitter {
	return &submitter{background: group, submit: submit}
}

// Submit is like tasks.Client.Submit. It does not end with the request: a task is enqueued, or
// not at all, also if its client has gone.
func (s *submitter) Submit(e tasks.Envelope) (tasks.Receipt, error) {
	item := &submission{envelope: e, done: make(chan struct{})}
	if !s.add(item) {
		return tasks.Receipt{}, errBusy
	}
	<-item.done
	return item.result.Receipt, item.result.Err
}

// add adds a task to the next round, and starts that round if it may begin. It returns false if
// too many tasks wait.
func (s *submitter) add(item *submission) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bytes > maxWaitingBytes {
		return false
	}
	s.waiting = append(s.waiting, item)
	s.bytes += len(item.envelope.Body)
	if s.rounds < maxRounds {
		s.rounds++
		s.background.Go(s.run)
	}
	return true
}

// run submits rounds until no task waits. It does not end with ctx, so that each task has a result.
func (s *submitter) run(ctx context.Context) {
	ctx = context.WithoutCancel(ctx)
	for round := s.next(); len(round) > 0; round = s.next() {
		s.submitRound(ctx, round)
	}
}

// next removes and returns the tasks of the next round. It ends the goroutine's part in rounds if
// there are none.
func (s *submitter) next() []*submission {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, size := 0, 0
	for n < len(s.waiting) && n < roundTasks && (n == 0 || size < roundBytes) {
		size += len(s.waiting[n].envelope.Body)
		n++
	}
	round := s.waiting[:n:n]
	s.waiting, s.bytes = s.waiting[n:], s.bytes-size
	if n == 0 {
		s.waiting = nil
		s.rounds--
	}
	return round
}

func (s *submitter) submitRound(ctx context.Context, round []*submission) {
	ctx, cancel := context.WithTimeout(ctx, roundTimeout)
	defer cancel()
	envelopes := make([]tasks.Envelope, len(round))
	for i, item := range round {
		envelopes[i] = item.envelope
	}
	for i, result := range s.submit(ctx, envelopes) {
		round[i].result = result
		close(round[i].done)
	}
}
