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

// TemplateScope returns the scope of a hold on one message template. Acquire does not check
// such holds, since it does not know the task: call [Limiter.HoldFor] before the call.
func TemplateScope(id string) string { return "template:" + id }

// HoldMessage followed by the app id is published on WakeChannel after every Hold and Unhold:
// all replicas then check the app's holds again.
const (
	WakeChannel = ledger.WakeChannel
	HoldMessage = "hold:"
)

// holdRetention is how long the record of an ended hold is kept. A hold of the same reason that
// is set within it keeps the first Since and adds one to Tries.
const holdRetention = time.Hour

// Hold stops calls until a time, or until it is lifted. Its record in Redis is the hash
// wxcourier:{<app>}:hold:<scope> with the fields of the JSON names below, without app and
// scope. There since and until are milliseconds since 1970, and an until of 0 means until
// lifted. The key has no expiry: a hold has ended once until has passed.
type Hold struct {
	App    string    `json:"app"`
	Scope  string    `json:"scope"`          // WholeApp, a task type, or a TemplateScope
	Reason string    `json:"reason"`         // a word for people and metrics, such as quota_day
	Code   int       `json:"code"`           // WeChat's errcode, 0 when none led to it
	Since  time.Time `json:"since"`          // when this reason first applied; zero in Limiter.Hold means now
	Until  time.Time `json:"until,omitzero"` // when it ends by itself; zero: when it is lifted
	By     string    `json:"by"`             // the replica or person that set it
	Tries  int       `json:"tries"`          // how often it was set after it had ended, from 1; ignored by Limiter.Hold
}

// holdKey is the key of a hold's record, holdsKey that of the private index of an app's scopes
// with a record. Both share the app's hash tag.
func holdKey(app, scope string) string { return "wxcourier:{" + app + "}:hold:" + scope }
func holdsKey(app string) string       { return "wxcourier:{" + app + "}:holds" }

// ReplicaPrefix is the prefix of By in holds that replicas set. All other holds are set by
// operators; while one is in force, a replica's hold does not replace it.
const ReplicaPrefix = "worker "

// Hold sets a hold and wakes the replicas. It changes nothing, and set is false, if a hold in
// force ends no earlier, if a replica's hold would replace an operator's (see
// [ReplicaPrefix]), or if h has ended already. An error with set true means that only the
// wake-up failed: the hold is in force, and replicas apply it with their next block.
func (l *Limiter) Hold(ctx context.Context, h Hold) (set bool, err error) {
	_, done, err := l.setHold(ctx, h, "at", millis(h.Until))
	return done != holdUnchanged, err
}

// End is when a hold ends, by Redis' clock.
type End struct {
	Span  Span          // PerMinute: as [NextMinute]; PerDay: as [EndOfDay]; otherwise After applies
	After time.Duration // counted from when the hold is set
}

// HoldEnding is [Limiter.Hold] for a replica, whose own clock may be wrong: the hold begins and
// ends by Redis' clock, and h's Since and Until are ignored. It returns the hold of this scope
// that is in force afterwards (h, or the one that was left in place; the zero Hold if none
// is), and whether h began it, that is, no hold was in force before. An error together with a
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

// The results of the hold script.
const (
	holdUnchanged = iota // a hold in force stays, or h has ended already
	holdReplaced         // h has replaced a hold in force
	holdBegun            // h is set, and none was in force before
)

// setHold runs the script. The returned hold is zero if none is in force.
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

// Unhold lifts a hold and wakes the replicas. lifted reports whether one was in force; its
// Tries start again at 1 either way. An error with lifted true means that only the wake-up
// failed.
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

// wake makes all replicas check the holds again: this one directly, the others by a message.
func (l *Limiter) wake(ctx context.Context, app string) error {
	_ = l.Revoke(ctx, app) // after an error the permits stay counted; the hold is set either way
	if err := l.rdb.Publish(ctx, WakeChannel, HoldMessage+app).Err(); err != nil {
		return fmt.Errorf("wake the replicas for %s: %w", app, err)
	}
	return nil
}

// millis converts a time for a hold's record, rounded up so that a hold never ends early. The
// zero time is 0.
func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Add(time.Millisecond - 1).UnixMilli()
}

// fromMillis is the inverse of millis.
func fromMillis(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}
