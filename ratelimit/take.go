package ratelimit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// grant is the reply to take: a block of instants, a wait or a hold.
type grant struct {
	plan        plan
	now         int64   // Redis' clock, µs since 1970
	instants    []int64 // the same clock; never before now
	bulk        int     // how many of them, from the first, bulk tasks may use
	spread      int64   // µs between the instants of a lane that shares a scarce pace; 0: as close as they may be
	wait        time.Duration
	window      Window
	hold        *Hold
	terms       []terms       // a row each; none with a hold
	clockOffset int64         // what to take off an instant for the replica's own clock, µs
	maxLateness time.Duration // how late its permits may be used
}

// terms are what holds of a row at the moment of a take.
type terms struct {
	epoch, seq           int64
	spacing, minute, day int64 // in force: µs, calls, calls; 0 without such a window
}

// termsPerRow is how many numbers the script replies for each row.
const termsPerRow = 5

// spaced tells whether the permits have an instant each.
func (g *grant) spaced() bool {
	return slices.ContainsFunc(g.terms, func(t terms) bool { return t.spacing > 0 })
}

// counted tells whether something besides instants was counted.
func (g *grant) counted() bool {
	for i, t := range g.terms {
		if t.minute > 0 || t.day > 0 || g.plan.rows[i].total > 0 {
			return true
		}
	}
	return false
}

// seq orders the grants of a lane: clocks may step, this does not.
func (g *grant) seq() int64 {
	if len(g.terms) == 0 {
		return 0
	}
	return g.terms[0].seq
}

// request is what a lane asks for.
type request struct {
	n           int   // permits, at most
	demand      int   // permits a second that the lane can use; 0: not to be shared with
	lastInstant int64 // the last instant that the lane holds, Redis' clock, µs; 0: none
}

// laneID names a lane of this replica among those that draw on the same rows.
func (l *Limiter) laneID(p plan) string { return l.id + "/" + p.typ }

// take asks for permits in one round trip. When Redis' clock turns out to have leapt it
// asks again, which has a window withheld.
func (l *Limiter) take(ctx context.Context, p plan, r request) (*grant, error) {
	g, leapt, err := l.takeOnce(ctx, p, r)
	if err != nil || !leapt {
		return g, err
	}
	_ = l.giveBack(ctx, l.permits(g), false) // else they stay counted
	g, leapt, err = l.takeOnce(ctx, p, r)
	if err == nil && leapt {
		err = errors.New("the clock of Redis keeps leaping")
	}
	return g, err
}

func (l *Limiter) takeOnce(ctx context.Context, p plan, q request) (g *grant, leapt bool, err error) {
	w := l.watcherOf(p.app)
	memories, leaps := w.versions(p.rows)
	args := []any{
		l.now(), l.laneID(p), q.n, horizon.Microseconds(), blockDuration.Microseconds(),
		bucket.Microseconds(), bucketTTL.Microseconds(), midnightSkew.Microseconds(), maxTotalBlock,
		q.demand, q.lastInstant, cell.Microseconds(),
	}
	for i, r := range p.rows {
		m, leapt := memories[i], 0
		if m.jumps != leaps {
			leapt = 1
		}
		args = append(args, r.spacing.Microseconds(), r.minute, r.day, r.total, 1-p.reserve, m.epoch, m.seq, leapt)
	}
	scopes := []string{WholeApp, p.typ}
	keys := p.keys(holdKey(p.app, scopes[0]), holdKey(p.app, scopes[1]))
	sent := l.mono()
	reply, err := takeScript.Run(ctx, l.rdb, keys, args...).Slice()
	read := l.mono() + 1 // rounded up, so that no instant is early
	if err != nil {
		return nil, false, err
	}
	if g, err = decodeGrant(p, scopes, reply); err != nil {
		return nil, false, err
	}
	leapt, g.clockOffset = w.observe(leaps, sent, read, g)
	g.maxLateness = lateness(g.spaced(), slices.ContainsFunc(g.terms, func(t terms) bool { return t.minute > 0 }), l.margin)
	return g, leapt, nil
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
	h, err := decodeHold(p.app, scope, reply[3:])
	if err != nil {
		return nil, err
	}
	g := &grant{plan: p, now: nums[0], hold: &h, wait: recheckInterval}
	if !h.Until.IsZero() {
		g.wait = h.Until.Sub(time.UnixMicro(g.now))
	}
	return g, nil
}

// window names the window that the script numbers 1 (second) to 4 (lifetime).
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
