package hold

import (
	"context"
	_ "embed" // the scripts
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/calendar"
	"github.com/wxcourier/wxcourier/internal/ledger"
)

// The scripts. The head of each file documents its keys, arguments and reply.
var (
	//go:embed set.lua
	setSource string
	//go:embed read.lua
	readSource string

	setScript  = redis.NewScript(setSource)
	readScript = redis.NewScript(readSource)
)

// Store keeps the records of holds in Redis. It is safe for concurrent use.
type Store struct {
	rdb      redis.UniversalClient
	onChange func(ctx context.Context, app string)
	clock    func() time.Time // replaces Redis' clock; nil: Redis' clock

	// skew is how far Redis' clock is ahead of the local one, in nanoseconds, as the last List
	// showed.
	skew atomic.Int64
}

// Option configures a Store.
type Option func(*Store)

// WithOnChange makes the store call do whenever it has set or lifted a hold of an app, before it
// tells the other replicas: permits that this process has leased, for instance, must not be used.
func WithOnChange(do func(ctx context.Context, app string)) Option {
	return func(s *Store) { s.onChange = do }
}

// WithClock replaces Redis' clock, for tests.
func WithClock(now func() time.Time) Option {
	return func(s *Store) { s.clock = now }
}

// NewStore returns the store of the holds in a Redis. It does no I/O.
func NewStore(rdb redis.UniversalClient, options ...Option) *Store {
	s := &Store{rdb: rdb, onChange: func(context.Context, string) {}}
	for _, o := range options {
		o(s)
	}
	return s
}

// now is the scripts' argument: µs since 1970, or 0 for Redis' own clock.
func (s *Store) now() int64 {
	if s.clock == nil {
		return 0
	}
	return s.clock().UnixMicro()
}

// Set sets a hold and wakes the replicas. It changes nothing, and set is false, if a hold in
// force ends no earlier, if a replica's hold would replace an operator's (see
// [ReplicaPrefix]), or if h has ended already. An error with set true means that only the
// wake-up failed: the hold is in force, and replicas apply it with their next block.
func (s *Store) Set(ctx context.Context, h Hold) (set bool, err error) {
	_, done, err := s.set(ctx, h, "at", millis(h.Until))
	return done != unchanged, err
}

// Boundary is the end of a minute or of a day, by the calendar of China.
type Boundary string

// The boundaries.
const (
	NextMinute Boundary = "minute" // as calendar.NextMinute
	EndOfDay   Boundary = "day"    // as calendar.EndOfDay
)

// End is when a hold ends, by Redis' clock: at a boundary, or without one after a time.
type End struct {
	At    Boundary
	After time.Duration // counted from when the hold is set; ignored with a boundary
}

// SetEnding is [Store.Set] for a replica, whose own clock may be wrong: the hold begins and
// ends by Redis' clock, and h's Since and Until are ignored. It returns the hold of this scope
// that is in force afterwards (h, or the one that was left in place; the zero Hold if none
// is), and whether h began it, that is, no hold was in force before. An error together with a
// hold means that only the wake-up failed.
func (s *Store) SetEnding(ctx context.Context, h Hold, end End) (inForce Hold, begun bool, err error) {
	kind, ms := string(end.At), calendar.MidnightSkew.Milliseconds()
	if end.At == "" {
		kind, ms = "after", (max(end.After, time.Millisecond) + time.Millisecond - 1).Milliseconds()
	}
	h.Since = time.Time{}
	inForce, done, err := s.set(ctx, h, kind, ms)
	return inForce, done == started, err
}

// The results of the script that sets a hold.
const (
	unchanged = iota // a hold in force stays, or h has ended already
	replaced         // h has replaced a hold in force
	started          // h is set, and none was in force before
)

// set runs the script. The returned hold is zero if none is in force.
func (s *Store) set(ctx context.Context, h Hold, kind string, ms int64) (inForce Hold, done int64, err error) {
	if h.App == "" || h.Scope == "" {
		return Hold{}, unchanged, errors.New("hold: app and scope are required")
	}
	failed := func(err error) (Hold, int64, error) {
		return Hold{}, unchanged, fmt.Errorf("hold %s of %s: %w", h.Scope, h.App, err)
	}
	reply, err := setScript.Run(ctx, s.rdb, []string{Key(h.App, h.Scope), indexKey(h.App)},
		s.now(), h.Scope, h.Reason, h.Code, h.By, millis(h.Since), Retention.Milliseconds(), ReplicaPrefix, kind, ms).Slice()
	if err != nil {
		return failed(err)
	}
	if len(reply) < 2 {
		return failed(errors.New("the script's reply is too short"))
	}
	done, ok := reply[0].(int64)
	if !ok {
		return failed(fmt.Errorf("script reply: %T where a number was expected", reply[0]))
	}
	if len(reply) > 2 {
		if inForce, err = Decode(h.App, h.Scope, reply[2:]); err != nil {
			return failed(err)
		}
	}
	if done == unchanged {
		return inForce, unchanged, nil
	}
	return inForce, done, s.announce(ctx, h.App)
}

// Lift ends a hold and wakes the replicas. lifted reports whether one was in force; its Tries
// start again at 1 either way. An error with lifted true means that only the wake-up failed.
func (s *Store) Lift(ctx context.Context, app, scope string) (lifted bool, err error) {
	_, active, err := s.Get(ctx, app, scope)
	if err != nil {
		return false, err
	}
	_, err = s.rdb.TxPipelined(ctx, func(tx redis.Pipeliner) error {
		tx.Del(ctx, Key(app, scope))
		tx.SRem(ctx, indexKey(app), scope)
		return nil
	})
	if err != nil {
		return false, fmt.Errorf("lift the hold %s of %s: %w", scope, app, err)
	}
	return active, s.announce(ctx, app)
}

// Announce makes all replicas check the holds and limits of an app again.
func (s *Store) Announce(ctx context.Context, app string) error { return s.announce(ctx, app) }

// announce makes all replicas check the holds again: this one directly, the others by a message.
func (s *Store) announce(ctx context.Context, app string) error {
	s.onChange(ctx, app)
	if err := s.rdb.Publish(ctx, ledger.WakeChannel, Message(app)).Err(); err != nil {
		return fmt.Errorf("wake the replicas for %s: %w", app, err)
	}
	return nil
}
