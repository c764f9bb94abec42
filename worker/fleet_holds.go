package worker

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/wxcourier/wxcourier/internal/rotate"
)

const (
	// pollHoldsEvery is the interval of [fleet.pollHolds]. Messages report each change of a
	// hold; polling makes up for lost ones.
	pollHoldsEvery = 5 * time.Second
	// countedPerPoll is of how many held lanes without pending tasks one poll counts the
	// tasks again.
	countedPerPoll = 5000
)

// readChangedHolds reads the holds that have changed.
func (f *fleet) readChangedHolds(ctx context.Context) {
	f.holdsChanged(ctx, f.holds.ReadChanged(ctx))
}

// pollHolds reads holds, writes their pauses and counts the tasks of held lanes. It runs
// seldom, since messages report the changes.
func (f *fleet) pollHolds(ctx context.Context) {
	changed, ok := f.holds.Poll(ctx)
	if !ok {
		return
	}
	f.holdsChanged(ctx, changed)
	f.holds.RenewPauses(ctx)
	f.checkSpent(ctx)
	f.countHeld(ctx)
}

// holdsChanged polls the queues of some apps soon, and makes their lanes check their holds
// again.
func (f *fleet) holdsChanged(ctx context.Context, apps []string) {
	if len(apps) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	for _, app := range apps {
		f.index.expedite(app)
		if f.holds.HoldsApp(app) {
			f.dispatcher.RevokePermits(ctx, app) // wake did so already, unless the message was lost
		}
	}
	for key, l := range f.snapshot() {
		if slices.Contains(apps, key.app) {
			l.gate.Recheck()
		}
	}
}

// countHeld counts the pending tasks of held lanes, and of open lanes that are awake.
func (f *fleet) countHeld(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	waiting := f.depths()
	var lanes, others []laneKey
	for _, app := range f.holds.HeldApps() {
		for _, typ := range f.index.types {
			switch key := (laneKey{app, typ}); {
			case !f.holds.Held(app, typ):
			case waiting[key] > 0:
				lanes = append(lanes, key)
			default:
				others = append(others, key)
			}
		}
	}
	others = rotate.Next(others, countedPerPoll, &f.countPos)
	pending, err := lanesWithPending(ctx, f.rdb, others)
	if err != nil {
		return // the next poll logs it
	}
	lanes = slices.AppendSeq(lanes, maps.Keys(pending))
	for key, l := range f.snapshot() {
		if !l.gate.Asleep() {
			lanes = append(lanes, key)
		}
	}
	if len(lanes) == 0 {
		return
	}
	if depth, err := pendingCounts(ctx, f.rdb, lanes); err == nil {
		f.setDepth(depth)
	}
}

// closeHeld closes the lanes that are held and have no running handlers.
func (f *fleet) closeHeld() {
	for key, l := range f.snapshot() {
		if l.active.Load() == 0 && f.holds.Held(key.app, key.typ) {
			f.close(key, l)
		}
	}
}
