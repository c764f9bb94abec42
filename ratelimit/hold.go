package ratelimit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
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

// holdMemory is how long an ended hold is remembered: one that is set again within it
// goes on, with its first Since and one try more.
const holdMemory = time.Hour

// Hold stops calls until a time, or until it is lifted. It is the record
// wxcourier:{<app>}:hold:<scope>, a hash with the fields of the JSON names below
// (without app and scope); since and until are there milliseconds since 1970, an until
// of 0 means until lifted. Redis never expires it: it has ended once until has passed.
type Hold struct {
	App    string    `json:"app"`
	Scope  string    `json:"scope"`          // WholeApp, a task type, or a TemplateScope
	Reason string    `json:"reason"`         // a word for people and metrics, such as quota_day
	Code   int       `json:"code"`           // WeChat's errcode, 0 when none led to it
	Since  time.Time `json:"since"`          // when the trouble began; zero in Limiter.Hold means now
	Until  time.Time `json:"until,omitzero"` // when it ends by itself; zero: when it is lifted
	By     string    `json:"by"`             // the replica or person that set it
	Tries  int       `json:"tries"`          // how often it was set, each time after it had ended; told, not set
}

// holdKey is the hold's record, holdsKey the private index of an app's scopes that have
// one. Both are on the app's hash tag.
func holdKey(app, scope string) string { return "wxcourier:{" + app + "}:hold:" + scope }
func holdsKey(app string) string       { return "wxcourier:{" + app + "}:holds" }

// Hold sets a hold and wakes the replicas. A hold that is in force and ends no earlier is
// left as it is, and so is everything when h has ended already: then set is false. An
// error with set true means that only the wake-up failed; the hold is in force, and
// replicas meet it at their next look.
func (l *Limiter) Hold(ctx context.Context, h Hold) (set bool, err error) {
	if h.App == "" || h.Scope == "" {
		return false, errors.New("hold: app and scope are required")
	}
	reply, err := holdScript.Run(ctx, l.rdb, []string{holdKey(h.App, h.Scope), holdsKey(h.App)},
		l.now(), h.Scope, h.Reason, h.Code, h.By, millis(h.Since), millis(h.Until), holdMemory.Milliseconds()).Int()
	if err != nil {
		return false, fmt.Errorf("hold %s of %s: %w", h.Scope, h.App, err)
	}
	if reply == 0 {
		return false, nil
	}
	return true, l.wake(ctx, h.App)
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
	_ = l.Recall(ctx, app) // what cannot be given back stays counted; the hold stands
	if err := l.rdb.Publish(ctx, WakeChannel, HoldMessage+app).Err(); err != nil {
		return fmt.Errorf("wake the replicas for %s: %w", app, err)
	}
	return nil
}

// HoldFor reads the record of one hold, and whether it is in force now. Of one that has
// ended in the last hour the record is told too: its Tries say how long to wait next time.
func (l *Limiter) HoldFor(ctx context.Context, app, scope string) (h Hold, active bool, err error) {
	now, holds, err := l.readHolds(ctx, app, []string{scope})
	if err != nil || len(holds) == 0 {
		return Hold{}, false, err
	}
	return holds[0], holds[0].activeAt(now), nil
}

// Holds lists the app's holds that are in force now, by scope.
func (l *Limiter) Holds(ctx context.Context, app string) ([]Hold, error) {
	scopes, err := l.rdb.SMembers(ctx, holdsKey(app)).Result()
	if err != nil {
		return nil, fmt.Errorf("holds of %s: %w", app, err)
	}
	if len(scopes) == 0 {
		return nil, nil
	}
	now, holds, err := l.readHolds(ctx, app, scopes)
	if err != nil {
		return nil, err
	}
	holds = slices.DeleteFunc(holds, func(h Hold) bool { return !h.activeAt(now) })
	slices.SortFunc(holds, func(a, b Hold) int { return cmp.Compare(a.Scope, b.Scope) })
	return holds, nil
}

func (h Hold) activeAt(now time.Time) bool { return h.Until.IsZero() || h.Until.After(now) }

// readHolds returns the records of the scopes that have one, and Redis' time.
func (l *Limiter) readHolds(ctx context.Context, app string, scopes []string) (time.Time, []Hold, error) {
	keys, args := []string{holdsKey(app)}, []any{l.now(), holdMemory.Milliseconds()}
	for _, s := range scopes {
		keys, args = append(keys, holdKey(app, s)), append(args, s)
	}
	reply, err := holdsScript.Run(ctx, l.rdb, keys, args...).Slice()
	if err != nil {
		return time.Time{}, nil, fmt.Errorf("holds of %s: %w", app, err)
	}
	if len(reply) != len(keys) {
		return time.Time{}, nil, fmt.Errorf("holds of %s: %d values in reply to %d keys", app, len(reply), len(keys))
	}
	now, err := integers(reply[:1])
	if err != nil {
		return time.Time{}, nil, fmt.Errorf("holds of %s: %w", app, err)
	}
	var holds []Hold
	for i, scope := range scopes {
		values, ok := reply[1+i].([]any)
		if !ok {
			return time.Time{}, nil, fmt.Errorf("holds of %s: %T where a hold was expected", app, reply[1+i])
		}
		if len(values) == 0 {
			continue
		}
		h, err := decodeHold(app, scope, values)
		if err != nil {
			return time.Time{}, nil, err
		}
		holds = append(holds, h)
	}
	return time.UnixMicro(now[0]), holds, nil
}

// decodeHold reads a hold's hash.
func decodeHold(app, scope string, reply []any) (Hold, error) {
	f, err := fields(reply)
	if err != nil {
		return Hold{}, err
	}
	var errs []error
	number := func(name string) int64 {
		n, err := strconv.ParseInt(f[name], 10, 64)
		if err != nil {
			errs = append(errs, fmt.Errorf("hold %s of %s: field %s: %w", scope, app, name, err))
		}
		return n
	}
	h := Hold{
		App: app, Scope: scope, Reason: f["reason"], By: f["by"],
		Code: int(number("code")), Tries: int(number("tries")),
		Since: moment(number("since")), Until: moment(number("until")),
	}
	return h, errors.Join(errs...)
}

// millis writes a time for a hold's record, rounded up so that a hold never ends early.
func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Add(time.Millisecond - 1).UnixMilli()
}

// moment reads what millis wrote.
func moment(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}
