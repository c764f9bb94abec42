package worker

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/wxcourier/wxcourier/wechat"
)

// breakers counts the answers of each lane that may be about single tasks or about all of
// the lane: those whose rule has inARow. A success between two of them begins the count anew.
// It knows this replica's answers alone.
type breakers struct {
	mu    sync.Mutex
	lanes map[laneKey]*breaker // guarded by mu
}

// breaker is what speaks against a lane.
type breaker struct {
	code        int           // WeChat's, of the last answer
	consecutive int           // guarded by suspects.mu
	probe       chan struct{} // holds a token while a call of a suspected lane is under way
}

// record takes an attempt into account, and returns how many such answers there were in a
// row; 0 when this was none.
func (s *breakers) record(key laneKey, a attempt) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case a.apiWorks():
		delete(s.lanes, key)
		return 0
	case !a.countsForBreaker():
		return 0
	}
	l := s.lanes[key]
	if l == nil || l.code != codeOf(a.err) {
		l = &breaker{code: codeOf(a.err), probe: make(chan struct{}, 1)}
	}
	l.consecutive++
	if s.lanes == nil {
		s.lanes = make(map[laneKey]*breaker)
	}
	s.lanes[key] = l
	return l.consecutive
}

// apiWorks tells whether an answer shows that the API works for the app.
func (a attempt) apiWorks() bool {
	var api *wechat.APIError
	if a.err == nil {
		return true
	}
	return errors.As(a.err, &api) && (api.Class() == wechat.ClassRefused || api.Class() == wechat.ClassRisky)
}

// countsForBreaker tells whether enough such answers in a row hold the lane.
func (a attempt) countsForBreaker() bool {
	a.consecutive = breakerThreshold
	return judge(a).hold.probe
}

// tripped returns what speaks against a lane; nil when it is not enough.
func (s *breakers) tripped(key laneKey) *breaker {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.lanes[key]; l != nil && l.consecutive >= breakerThreshold {
		return l
	}
	return nil
}

// probeTimeout is how long a task waits for the probe before it, where it holds a slot and a
// lease.
const probeTimeout = 2 * time.Second

// errProbed says why a task of a suspected lane was not called.
var errProbed = errors.New("another task probes the lane")

// probe lets the calls of a suspected lane through one at a time: the answer to the first
// one tells what becomes of the others. Other lanes do not wait. done ends the probe.
func (r *Replica) probe(ctx context.Context, j *job) (done func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	key := laneKey{j.App, j.Type}
	l := r.breakers.tripped(key)
	if l == nil {
		return func() {}, nil
	}
	select {
	case l.probe <- struct{}{}:
	case <-ctx.Done():
		return nil, errProbed
	}
	done = func() { <-l.probe }
	switch {
	case r.breakers.tripped(key) != l: // the one before went well
		done()
		return func() {}, nil
	case r.held(ctx, j): // it did not
		done()
		return nil, errProbed
	}
	return done, nil
}

// unlistedCodes remembers which codes without a row in the code table were logged.
type unlistedCodes struct {
	mu     sync.Mutex
	logged map[unlistedCode]bool // guarded by mu
}

type unlistedCode struct {
	endpoint wechat.Endpoint
	code     int
}

// maxUnlisted bounds the memory: an endpoint that answers at random is logged so often.
const maxUnlisted = 1000

// shouldLog tells whether a code was not logged before for its endpoint.
func (u *unlistedCodes) shouldLog(at unlistedCode) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.logged[at] || len(u.logged) >= maxUnlisted {
		return false
	}
	if u.logged == nil {
		u.logged = make(map[unlistedCode]bool)
	}
	u.logged[at] = true
	return true
}

// logUnlisted logs a code that the code table has no row for, once for each endpoint.
func (r *Replica) logUnlisted(j *job) {
	var api *wechat.APIError
	if !errors.As(j.err, &api) || api.Class() != wechat.ClassUnlisted || !r.unlisted.shouldLog(unlistedCode{api.Endpoint, api.Code}) {
		return
	}
	r.log.Warn("an errcode has no row in the code table; tell the maintainers, or add one",
		j.attrs(slog.String("api", string(api.Endpoint)), slog.Int("errcode", api.Code), slog.Any("err", j.err))...)
}
