package inspect

import (
	"context"
	"math"
	"time"

	"github.com/wxcourier/wxcourier/internal/hold"
	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/tasks"
)

// The reasons of limits that are spent by our own count.
const (
	ReasonQuotaDay      = "quota_day"      // as of a hold for WeChat's own refusal
	ReasonQuotaTotal    = "quota_total"    // a limit of the app's lifetime
	ReasonQuotaReserved = "quota_reserved" // the rest of the day's limit is reserved for urgent tasks
)

// IsSpentReason reports whether a reason is one of limits that are spent by our own count.
func IsSpentReason(reason string) bool {
	return reason == ReasonQuotaDay || reason == ReasonQuotaTotal || reason == ReasonQuotaReserved
}

// Spent returns the limit of a type that stops its tasks, or only its bulk tasks, by our own count;
// ok is false if none does. Of several that are spent it is the one that ends last.
//
// The hold is By hold.OurCount. It is in no record: the limiter refuses the permits.
func Spent(app, typ string, usage []ratelimit.Usage) (h hold.Hold, by ratelimit.Usage, ok bool) {
	find := func(spent func(ratelimit.Usage) bool) (last ratelimit.Usage, found bool) {
		for _, u := range usage {
			if spent(u) && (!found || !last.Ends.IsZero() && (u.Ends.IsZero() || u.Ends.After(last.Ends))) {
				last, found = u, true
			}
		}
		return last, found
	}
	h = hold.Hold{App: app, Scope: typ, Reason: ReasonQuotaDay, By: hold.OurCount, Tries: 1}
	if by, ok = find(ratelimit.Usage.Spent); !ok {
		h.Scope, h.Reason = hold.BulkScope(typ), ReasonQuotaReserved
		by, ok = find(ratelimit.Usage.SpentForBulk)
	}
	if !ok {
		return hold.Hold{}, by, false
	}
	if by.Window == ratelimit.Total {
		h.Reason = ReasonQuotaTotal
	}
	h.Since, h.Until = by.Counted, by.Ends
	return h, by, true
}

// SpentLimit is a limit that is spent by our own count, and the window that is full.
type SpentLimit struct {
	hold.Hold
	Window ratelimit.Usage
}

// ReadSpent reads which limits of some apps are spent by our own count, of all types. It takes at
// most four round trips, and reads nothing of types that were never used. It leaves out a limit while
// permits may still be used, which are counted before their calls are made.
func ReadSpent(ctx context.Context, limiter *ratelimit.Limiter, apps []string) ([]SpentLimit, error) {
	var of []ratelimit.AppType
	for _, app := range apps {
		for _, typ := range tasks.Types() {
			of = append(of, ratelimit.AppType{App: app, Type: typ})
		}
	}
	usage, err := limiter.UsageMany(ctx, of)
	if err != nil {
		return nil, err
	}
	var all []SpentLimit
	for i, at := range of {
		if h, by, ok := Spent(at.App, at.Type, usage[i]); ok && (by.Quiet || h.Reason == ReasonQuotaReserved) {
			all = append(all, SpentLimit{h, by})
		}
	}
	return all, nil
}

// HoldsOf returns limits as holds.
func HoldsOf(spent []SpentLimit) []hold.Hold {
	var all []hold.Hold
	for _, s := range spent {
		all = append(all, s.Hold)
	}
	return all
}

// SecondsLeft returns how long a hold goes on, in seconds; infinitely if nothing ends it by itself.
func SecondsLeft(h hold.Hold, now time.Time) float64 {
	if h.Until.IsZero() {
		return math.Inf(1)
	}
	return max(0, h.Until.Sub(now).Seconds())
}
