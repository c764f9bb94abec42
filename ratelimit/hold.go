package ratelimit

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/ledger"
)

// WholeApp is the scope of a hold on all types of an app.
const WholeApp = "*"

// TemplateScope is the scope of a hold on one message template. The windows do not look
// at it, since they know no task: ask [Limiter.HoldFor] before the call.
func TemplateScope(id string) string { return "template:" + id }

// The message that tells all replicas to look at an app's holds again: HoldMessage
// followed by the app id, published on WakeChannel after every Hold and Unhold.
const (
	WakeChannel = ledger.WakeChannel
	HoldMessage = "hold:"
)

// holdRetention is how long an ended hold is remembered: one that is set again within it
// goes on, with its first Since and one try more.
const holdRetention = time.Hour

// Hold stops calls until a time, or until it is lifted. It is the record
// wxcourier:{<app>}:hold:<scope>, a hash with the fields of the JSON names below
// (without app and scope); since and until are there milliseconds since 1970, an until
// of 0 means until lifted. Redis never expires it: it has ended once until has passed.
type Hold struct {
	App    string    `json:"app"`
	Scope  string    `json:"scope"`          // WholeApp, a task type, or a TemplateScope
	Reason string    `json:"reason"`         // a word for people and metrics, such as quota_day
	Code   int       `json:"code"`           // WeChat's errcode, 0 when none led to it
	Since  time.Time `json:"since"`          // when the trouble of this reason began; zero in Limiter.Hold means now
	Until  time.Time `json:"until,omitzero"` // when it ends by itself; zero: when it is lifted
	By     string    `json:"by"`             // the replica or person that set it
	Tries  int       `json:"tries"`          // how often it was set, each time after it had ended; told, not set
}

// holdKey is the hold's record, holdsKey the private index of an app's scopes that have
// one. Both are on the app's hash tag.
func holdKey(app, scope string) string { return "wxcourier:{" + app + "}:hold:" + scope }
func holdsKey(app string) string       { return "wxcourier:{" + app + "}:holds" }

// ReplicaPrefix begins the By of the holds that replicas set. All other holds are an
// operator's: no replica's hold replaces one that is in force.
const ReplicaPrefix = "worker "

// Hold sets a hold and wakes the replicas. A hold that is in force and ends no earlier is
// left as it is, so is an operator's by a replica's (see [ReplicaPrefix]), and everything
// when h has ended already: then set is false. An error with set true means that only the
// wake-up failed; the hold is in force, and replicas meet it at their next look.
func (l *Limiter) Hold(ctx context.Context, h Hold) (set bool, err error) {
	_, done, err := l.setHold(ctx, h, "at", millis(h.Until))
	return done != holdUnchanged, err
}

// End says when a hold ends, by Redis' clock.
type End struct {
	Span  Span          // PerMinute: as [NextMinute], PerDay: as [EndOfDay]; "" is After
	After time.Duration // counted from when the hold is set
}

// HoldEnding is [Limiter.Hold] for a replica, whose own clock may be wrong: Redis' clock
// decides when the hold begins and ends, and h's Since and Until are not looked at. It
// returns the hold of this scope that is in force then (h, or the one that it left; the
// zero Hold is none), and whether h began it: none was in force before. An error beside a
// hold means that only the wake-up failed.
func (l *Limiter) HoldEnding(ctx context.Context, h Hold, end End) (inForce Hold, begun bool, err error) {
	kind, ms := "after", (max(end.After, time.Millisecond) + time.Millisecond - 1).Milliseconds()
	switch end.Span {
	case PerMinute:
		kind, ms = "minute", midnightSkew.Milliseconds()
	case PerDay:
		kind, ms = "day", midnightSkew.Milliseconds()
	case PerSecond, Total:
	}
	h.Since = time.Time{}
	inForce, done, err := l.setHold(ctx, h, kind, ms)
	return inForce, done == holdBegun, err
}

// What the script does about a hold.
const (
	holdUnchanged = iota // nothing: one is in force that stays, or h has ended already
	holdReplaced         // set in the place of one that was in force
	holdBegun            // set where none was in force
)

// setHold runs the script. The hold that it returns is zero where none is in force.
func (l *Limiter) setHold(ctx context.Context, h Hold, kind string, ms int64) (inForce Hold, done int64, err error) {
	if h.App == "" || h.Scope == "" {
		return Hold{}, holdUnchanged, errors.New("hold: app and scope are required")
	}
	failed := func(err error) (Hold, int64, error) {
		return Hold{}, holdUnchanged, fmt.Errorf("hold %s of %s: %w", h.Scope, h.App, err)
	}
	reply, err := holdScript.Run(ctx, l.rdb, []string{holdKey(h.App, h.Scope), holdsKey(h.App)},
		l.now(), h.Scope, h.Reason, h.Code, h.By, millis(h.Since), holdRetention.Milliseconds(), ReplicaPrefix, kind, ms).Slice()
	if err != nil {
		return failed(err)
	}
	head, err := integers(reply[:min(2, len(reply))])
	if err != nil || len(head) < 2 {
		return failed(errors.Join(err, errors.New("the script's reply is too short")))
	}
	if len(reply) > 2 {
		if inForce, err = decodeHold(h.App, h.Scope, reply[2:]); err != nil {
			return failed(err)
		}
	}
	if head[0] == holdUnchanged {
		return inForce, holdUnchanged, nil
	}
	return inForce, head[0], l.wake(ctx, h.App)
}

// Unhold lifts a hold and wakes the replicas. It tells whether one was in force; the
// count of its tries starts again either way. An error with lifted true means that only
// the wake-up failed.
func (l *Limiter) Unhold(ctx context.Context, app, scope string) (lifted bool, err error) {
	_, active, err := l.HoldFor(ctx, app, scope)
	if err != nil {
		return false, err
	}
	_, err = l.rdb.TxPipelined(ctx, func(tx redis.Pipeliner) error {
		tx.Del(ctx, holdKey(app, scope))
		tx.SRem(ctx, holdsKey(app), scope)
		return nil
	})
	if err != nil {
		return false, fmt.Errorf("lift the hold %s of %s: %w", scope, app, err)
	}
	return active, l.wake(ctx, app)
}

// wake tells all replicas to look again, this one at once.
func (l *Limiter) wake(ctx context.Context, app string) error {
	_ = l.Revoke(ctx, app) // what cannot be given back stays counted; the hold stands
	if err := l.rdb.Publish(ctx, WakeChannel, HoldMessage+app).Err(); err != nil {
		return fmt.Errorf("wake the replicas for %s: %w", app, err)
	}
	return nil
}

// millis writes a time for a hold's record, rounded up so that a hold never ends early.
func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Add(time.Millisecond - 1).UnixMilli()
}

// fromMillis reads what millis wrote.
func fromMillis(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}
