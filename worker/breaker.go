package worker

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/wxcourier/wxcourier/wechat"
)

// suspects counts the answers of each lane that may be about single tasks or about all of
// the lane: those whose rule has inARow. A success between two of them begins the count anew.
// It knows this replica's answers alone.
type suspects struct {
	mu    sync.Mutex
	lanes map[laneKey]*suspicion // guarded by mu
}

// suspicion is what speaks against a lane.
type suspicion struct {
	code   int           // WeChat's, of the last answer
	inARow int           // guarded by suspects.mu
	probe  chan struct{} // holds a token while a call of a suspected lane is under way
}

// judged takes an attempt into account, and returns how many such answers there were in a
// row; 0 when this was none.
func (s *suspects) judged(key laneKey, a attempt) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case a.works():
		delete(s.lanes, key)
		return 0
	case !a.suspicious():
		return 0
	}
	l := s.lanes[key]
	if l == nil || l.code != codeOf(a.err) {
		l = &suspicion{code: codeOf(a.err), probe: make(chan struct{}, 1)}
	}
	l.inARow++
	if s.lanes == nil {
		s.lanes = make(map[laneKey]*suspicion)
	}
	s.lanes[key] = l
	return l.inARow
}

// works tells whether an answer shows that the API works for the app.
func (a attempt) works() bool {
	var api *wechat.APIError
	if a.err == nil {
		return true
	}
	return errors.As(a.err, &api) && (api.Class() == wechat.ClassRefused || api.Class() == wechat.ClassRisky)
}

// suspicious tells whether enough such answers in a row hold the lane.
func (a attempt) suspicious() bool {
	a.inARow = suspicious
	return judge(a).hold.probe
}

// suspected returns what speaks against a lane; nil when it is not enough.
func (s *suspects) suspected(key laneKey) *suspicion {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.lanes[key]; l != nil && l.inARow >= suspicious {
		return l
	}
	return nil
}

// probePatience is how long a task waits for the probe before it, where it holds a slot and a
// lease.
const probePatience = 2 * time.Second

// errProbed says why a task of a suspected lane was not called.
var errProbed = errors.New("another task probes the lane")

// probe lets the calls of a suspected lane through one at a time: the answer to the first
// one tells what becomes of the others. Other lanes do not wait. done ends the probe.
func (r *Replica) probe(ctx context.Context, j *job) (done func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, probePatience)
	defer cancel()
	key := laneKey{j.App, j.Type}
	l := r.suspects.suspected(key)
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
	case r.suspects.suspected(key) != l: // the one before went well
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
	mu   sync.Mutex
	said map[unlistedAt]bool // guarded by mu
}

type unlistedAt struct {
	endpoint wechat.Endpoint
	code     int
}

// mostUnlisted bounds the memory: an endpoint that answers at random is logged so often.
const mostUnlisted = 1000

// first tells whether a code was not logged before for its endpoint.
func (u *unlistedCodes) first(at unlistedAt) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.said[at] || len(u.said) >= mostUnlisted {
		return false
	}
	if u.said == nil {
		u.said = make(map[unlistedAt]bool)
	}
	u.said[at] = true
	return true
}

// sayUnlisted logs a code that the code table has no row for, once for each endpoint.
func (r *Replica) sayUnlisted(j *job) {
	var api *wechat.APIError
	if !errors.As(j.err, &api) || api.Class() != wechat.ClassUnlisted || !r.unlisted.first(unlistedAt{api.Endpoint, api.Code}) {
		return
	}
	r.log.Warn("an errcode has no row in the code table; tell the maintainers, or add one",
		j.attrs(slog.String("api", string(api.Endpoint)), slog.Int("errcode", api.Code), slog.Any("err", j.err))...)
}
