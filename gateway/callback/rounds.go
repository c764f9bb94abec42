package callback

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/wxcourier/wxcourier/internal/background"
)

const (
	// maxRounds is the number of rounds at the same time: one is prepared while Redis works on the other.
	maxRounds = 2
	// roundEntries and roundBytes are the maximum size of a round. A single push may exceed roundBytes.
	roundEntries = 500
	roundBytes   = 2 << 20
	// roundTimeout limits a round.
	roundTimeout = 4 * time.Second
	// announceEvery is how often an app is added to the set of the apps.
	announceEvery = time.Minute
)

// errLate means that a push was not stored in time. It may be stored later: then its repetition is one.
var errLate = errors.New("callback: no answer in time")

// entry is a push that is to be stored.
type entry struct {
	app, identity string
	text          []byte

	ctx   context.Context //nolint:containedctx // of the request that waits: when it ends, nothing is stored
	done  chan struct{}   // closed when the results are set
	fresh bool            // result: stored, and not a repetition
	err   error           // result
}

// rounds gathers the pushes of concurrent requests, as gateway/api does with tasks: a push is stored at
// once unless maxRounds rounds are under way, and those that arrive meanwhile are the next round.
type rounds struct {
	background *background.Group
	written    store

	mu        sync.Mutex
	waiting   []*entry             // guarded by mu; in the order of their arrival
	underWay  int                  // guarded by mu; rounds
	announced map[string]time.Time // guarded by mu; by app
}

func newRounds(group *background.Group, s store) *rounds {
	return &rounds{background: group, written: s, announced: make(map[string]time.Time)}
}

// store stores a push, and reports whether it is not a repetition. It returns when ctx ends, whatever
// Redis does.
func (r *rounds) store(ctx context.Context, e *entry) (fresh bool, err error) {
	e.ctx, e.done = ctx, make(chan struct{})
	r.add(e)
	select {
	case <-e.done:
		return e.fresh, e.err
	case <-ctx.Done():
		return false, errLate
	}
}

// add adds a push to the next round, and starts that round if it may begin.
func (r *rounds) add(e *entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waiting = append(r.waiting, e)
	if r.underWay < maxRounds {
		r.underWay++
		r.background.Go(r.run)
	}
}

// run stores rounds until no push waits. It does not end with ctx: each request waits for its result.
func (r *rounds) run(ctx context.Context) {
	ctx = context.WithoutCancel(ctx)
	for {
		round, announce := r.next()
		if len(round) == 0 {
			return
		}
		r.storeRound(ctx, round, announce)
	}
}

// next removes and returns the pushes of the next round, and those of their apps that are to be
// announced. Pushes whose requests were answered are left out. It ends the goroutine's part in underWay
// if there are none.
func (r *rounds) next() (round []*entry, announce []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n, size, now := 0, 0, time.Now()
	for n < len(r.waiting) && len(round) < roundEntries && (len(round) == 0 || size < roundBytes) {
		e := r.waiting[n]
		n++
		if e.ctx.Err() != nil {
			continue
		}
		round, size = append(round, e), size+len(e.text)
		if now.Sub(r.announced[e.app]) >= announceEvery {
			r.announced[e.app] = now
			announce = append(announce, e.app)
		}
	}
	r.waiting = r.waiting[n:]
	if len(round) == 0 {
		r.waiting = nil
		r.underWay--
	}
	return round, announce
}

func (r *rounds) storeRound(ctx context.Context, round []*entry, announce []string) {
	ctx, cancel := context.WithTimeout(ctx, roundTimeout)
	defer cancel()
	if err := r.written.write(ctx, round, announce); err != nil {
		r.mu.Lock()
		for _, app := range announce {
			delete(r.announced, app)
		}
		r.mu.Unlock()
	}
	for _, e := range round {
		close(e.done)
	}
}
