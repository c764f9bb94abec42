package dispatch

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
	mu     sync.Mutex
	byLane map[lane]*breaker // guarded by mu
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
func (s *breakers) record(key lane, a Attempt) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case a.apiWorks():
		delete(s.byLane, key)
		return 0
	case !a.countsForBreaker():
		return 0
	}
	l := s.byLane[key]
	if l == nil || l.code != codeOf(a.Err) {
		l = &breaker{code: codeOf(a.Err), probe: make(chan struct{}, 1)}
	}
	l.consecutive++
	if s.byLane == nil {
		s.byLane = make(map[lane]*breaker)
	}
	s.byLane[key] = l
	return l.consecutive
}

// apiWorks reports whether an answer shows that the API works for the app.
func (a Attempt) apiWorks() bool {
	var api *wechat.APIError
	if a.Err == nil {
		return true
	}
	return errors.As(a.Err, &api) && (api.Class() == wechat.ClassRefused || api.Class() == wechat.ClassRisky)
}

// countsForBreaker reports whether breakerThreshold such answers in a row hold the lane.
func (a Attempt) countsForBreaker() bool {
	a.consecutive = breakerThreshold
	return judge(a).hold.probe
}

// tripped returns the breaker of a lane if it has tripped, else nil.
func (s *breakers) tripped(key lane) *breaker {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.byLane[key]; l != nil && l.consecutive >= breakerThreshold {
		return l
	}
	return nil
}

// probeTimeout bounds the wait for another task's probe, during which a task holds a slot
// and a lease.
const probeTimeout = 2 * time.Second

// ErrProbed means that another call probes the lane, whose breaker has tripped.
var ErrProbed = errors.New("dispatch: another task probes the lane")

// Probe serializes the calls of a lane whose breaker has tripped. The answer to the first
// call decides whether the others follow or the lane is held; the others get ErrProbed when
// that takes longer than probeTimeout or the lane is held. done ends the probe.
func (d *Dispatcher) Probe(ctx context.Context, c *Call) (done func(), err error) {
	l := d.breakers.tripped(c.lane())
	if l == nil {
		return func() {}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	select {
	case l.probe <- struct{}{}:
	case <-ctx.Done():
		return nil, ErrProbed
	}
	done = func() { <-l.probe }
	switch {
	case d.breakers.tripped(c.lane()) != l: // the probe before succeeded
		done()
		return func() {}, nil
	case d.Held(ctx, c): // the probe before failed
		done()
		return nil, ErrProbed
	}
	return done, nil
}
