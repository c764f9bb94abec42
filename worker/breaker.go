package worker

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/wxcourier/wxcourier/wechat"
)

// breakers are the circuit breakers of the lanes. They count the answers whose cause may be
// a single task or the whole lane: those whose rule has a tripReason. A success, or such an
// answer with another errcode, resets the count. Each replica counts its own answers.
type breakers struct {
	mu    sync.Mutex
	lanes map[laneKey]*breaker // guarded by mu
}

// breaker is the circuit breaker of one lane. It trips at breakerThreshold answers; then the
// lane makes one call at a time, the probe.
type breaker struct {
	code        int           // WeChat's errcode of the answers, or 0
	consecutive int           // guarded by breakers.mu; such answers in a row
	probe       chan struct{} // holds a token while a probe is under way
}

// record counts an attempt. It returns the number of such answers in a row, or 0 when this
// answer does not count.
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

// apiWorks reports whether an answer shows that the API works for the app.
func (a attempt) apiWorks() bool {
	var api *wechat.APIError
	if a.err == nil {
		return true
	}
	return errors.As(a.err, &api) && (api.Class() == wechat.ClassRefused || api.Class() == wechat.ClassRisky)
}

// countsForBreaker reports whether breakerThreshold such answers in a row hold the lane.
func (a attempt) countsForBreaker() bool {
	a.consecutive = breakerThreshold
	return judge(a).hold.probe
}

// tripped returns the breaker of a lane if it has tripped, else nil.
func (s *breakers) tripped(key laneKey) *breaker {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.lanes[key]; l != nil && l.consecutive >= breakerThreshold {
		return l
	}
	return nil
}

// probeTimeout bounds the wait for another task's probe, during which a task holds a slot
// and a lease.
const probeTimeout = 2 * time.Second

// errProbed is the reason why a task of a lane with a tripped breaker was not called.
var errProbed = errors.New("worker: another task probes the lane")

// probe serializes the calls of a lane whose breaker has tripped. The answer to the first
// call decides whether the others follow or the lane is held. done ends the probe.
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
	case r.breakers.tripped(key) != l: // the probe before succeeded
		done()
		return func() {}, nil
	case r.held(ctx, j): // the probe before failed
		done()
		return nil, errProbed
	}
	return done, nil
}
