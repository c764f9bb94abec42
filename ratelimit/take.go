package ratelimit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/wxcourier/wxcourier/internal/hold"
)

// grant is the decoded reply of the take script: a block of instants, a wait or a hold.
type grant struct {
	plan        plan
	now         int64   // Redis' clock, µs since 1970
	instants    []int64 // by the same clock; never before now
	bulk        int     // bulk tasks may use the first bulk instants; the others are reserved for urgent ones
	spread      int64   // µs between instants that are spread out, as several lanes share a scarce pace; 0: not spread out
	wait        time.Duration
	window      Window
	hold        *hold.Hold
	terms       []terms       // one per row; none with a hold
	clockOffset int64         // lower bound of Redis' clock minus the replica's, µs: an instant minus it is local time
	maxLateness time.Duration // how late its permits may be used, see lateness
}

// terms are a row's version and effective limits when the permits were granted.
type terms struct {
	epoch, seq           int64
	spacing, minute, day int64 // µs, calls, calls; 0 without such a window
}

// termsPerRow is the number of values per row in the script's reply.
const termsPerRow = 5

// spaced reports whether each permit has an instant of its own: a row limits the second.
func (g *grant) spaced() bool {
	return slices.ContainsFunc(g.terms, func(t terms) bool { return t.spacing > 0 })
}

// counted reports whether the permits were counted in a window longer than a second.
func (g *grant) counted() bool {
	for i, t := range g.terms {
		if t.minute > 0 || t.day > 0 || g.plan.rows[i].total > 0 {
			return true
		}
	}
	return false
}

// exhausted reports whether a limit of the day or of the app's lifetime is used up, for bulk tasks
// at least.
func (g *grant) exhausted() bool {
	if len(g.instants) > 0 {
		return g.bulk == 0
	}
	return g.hold == nil && (g.window.Span == PerDay || g.window.Span == Total)
}

// seq returns the sequence number of the grant, which orders the grants of a lane even when
// clocks step.
func (g *grant) seq() int64 {
	if len(g.terms) == 0 {
		return 0
	}
	return g.terms[0].seq
}

// request describes the block that a lane wants.
type request struct {
	n           int   // maximum number of permits
	demand      int   // permits a second that the lane can use; 0: a single request, not counted among the lanes
	lastInstant int64 // the last instant that the lane already holds, Redis' clock, µs; 0: none
}

// laneID identifies a lane of this replica among the lanes that share its rows.
func (l *Limiter) laneID(p plan) string { return l.id + "/" + p.typ }

// take requests permits in one round trip. If the reply shows that Redis' clock jumped
// forward, take gives them back and requests again: the script then withholds a window.
func (l *Limiter) take(ctx context.Context, p plan, req request) (*grant, error) {
	g, jumped, err := l.takeOnce(ctx, p, req)
	if err != nil || !jumped {
		return g, err
	}
	_ = l.giveBack(ctx, l.permits(g), false) // after an error the permits stay counted
	g, jumped, err = l.takeOnce(ctx, p, req)
	if err == nil && jumped {
		err = errors.New("the clock of Redis jumped forward twice in a row")
	}
	return g, err
}

// takeOnce runs the script once. jumped reports that Redis' clock jumped forward meanwhile:
// the permits must not be used.
func (l *Limiter) takeOnce(ctx context.Context, p plan, req request) (g *grant, jumped bool, err error) {
	w := l.watcherOf(p.app)
	versions, jumps := w.versions(p.rows)
	args := []any{
		l.now(), l.laneID(p), req.n, horizon.Microseconds(), blockDuration.Microseconds(),
		bucket.Microseconds(), bucketTTL.Microseconds(), midnightSkew.Microseconds(), maxTotalBlock,
		req.demand, req.lastInstant, cell.Microseconds(),
		loweredPause.Microseconds(),
	}
	for i, r := range p.rows {
		v, jumped := versions[i], 0
		if v.jumps != jumps {
			jumped = 1
		}
		args = append(args, r.spacing.Microseconds(), r.minute, r.day, r.total, 1-p.reserve, v.epoch, v.seq, jumped)
	}
	scopes := []string{hold.WholeApp, p.typ}
	keys := p.keys(hold.Key(p.app, scopes[0]), hold.Key(p.app, scopes[1]))
	sent := l.mono()
	reply, err := takeScript.Run(ctx, l.rdb, keys, args...).Slice()
	read := l.mono() + 1 // rounded up, so that no instant is early
	if err != nil {
		return nil, false, err
	}
	if g, err = decodeGrant(p, scopes, reply); err != nil {
		return nil, false, err
	}
	jumped, g.clockOffset = w.observe(jumps, sent, read, g)
	g.maxLateness = lateness(g.spaced(), slices.ContainsFunc(g.terms, func(t terms) bool { return t.minute > 0 }), l.margin)
	return g, jumped, nil
}

func decodeGrant(p plan, scopes []string, reply []any) (*grant, error) {
	if len(reply) > 2 && reply[0] == int64(2) {
		return heldGrant(p, scopes, reply)
	}
	nums, err := integers(reply)
	if err != nil {
		return nil, err
	}
	g, rows := &grant{plan: p}, termsPerRow*len(p.rows)
	switch {
	case len(nums) > 4+rows && nums[0] == 1:
		g.now, g.bulk, g.spread, nums = nums[1], int(nums[2]), nums[3], nums[4:]
		g.instants = nums[rows:]
	case len(nums) == 5+rows && nums[0] == 0 && nums[3] >= 1 && int(nums[3]) <= len(p.rows):
		g.now, g.wait = nums[1], time.Duration(nums[2])*time.Microsecond
		g.window = p.rows[nums[3]-1].window(nums[4])
		nums = nums[5:]
	default:
		return nil, fmt.Errorf("take script: unexpected reply of %d values", len(reply))
	}
	for r := range slices.Chunk(nums[:rows], termsPerRow) {
		g.terms = append(g.terms, terms{epoch: r[0], seq: r[1], spacing: r[2], minute: r[3], day: r[4]})
	}
	return g, nil
}

// heldGrant decodes the reply {2, now, index of the scope, field, value…}.
func heldGrant(p plan, scopes []string, reply []any) (*grant, error) {
	nums, err := integers(reply[1:3])
	if err != nil {
		return nil, err
	}
	scope := scopes[0]
	if nums[1] == 2 {
		scope = scopes[1]
	}
	h, err := hold.Decode(p.app, scope, reply[3:])
	if err != nil {
		return nil, err
	}
	g := &grant{plan: p, now: nums[0], hold: &h, wait: recheckInterval}
	if !h.Until.IsZero() {
		g.wait = h.Until.Sub(time.UnixMicro(g.now))
	}
	return g, nil
}

// window returns the window of the row that the script numbers 1 (second) to 4 (lifetime).
func (r pacedRow) window(kind int64) Window {
	switch kind {
	case 1:
		return Window{r.name, PerSecond, int64(r.limit.PerSecond)}
	case 2:
		return Window{r.name, PerMinute, int64(r.limit.PerMinute)}
	case 3:
		return Window{r.name, PerDay, r.limit.PerDay}
	default:
		return Window{r.name, Total, r.limit.Total}
	}
}
