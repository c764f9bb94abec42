package worker

import (
	"context"
	"log/slog"
	"slices"
	"time"
)

// refreshQueues reads which queues exist. After an error the next call tries again.
func (f *fleet) refreshQueues(ctx context.Context) {
	f.redisAnswers(ctx, f.index.refresh(ctx, f.rdb))
	f.mu.Lock()
	defer f.mu.Unlock()
	f.known = slices.Clip(f.index.known) // the index only appends
}

// redisAnswers reports whether err is nil. It logs when Redis stops and starts to answer.
func (f *fleet) redisAnswers(ctx context.Context, err error) bool {
	if err != nil {
		if ctx.Err() == nil && f.throttle.allow(redisAway, time.Now()) {
			f.log.Warn(redisAway, slog.Any("err", err))
		}
		return false
	}
	if f.throttle.reset(redisAway) {
		f.log.Info("Redis answers again")
	}
	return true
}

// poll reads from Redis which lanes have work: some of the closed lanes, and the open lanes
// that sleep or are idle. It opens or wakes lanes that have work, and closes lanes that have
// been idle for idleTimeout or are held.
//
// An open lane that is awake finds its tasks by itself, and asynq forwards its delayed tasks.
func (f *fleet) poll(ctx context.Context) {
	now, open := time.Now(), f.snapshot()
	var queues []queueRef
	for _, q := range f.index.next(now) {
		if open[q.lane] == nil && !f.holds.Held(q.lane.app, q.lane.typ) {
			queues = append(queues, q)
		}
	}
	asleep, idle := idleLanes(open, now)
	for _, key := range idle {
		queues = append(queues, queuesOf(key)...)
	}
	found, err := queueDepths(ctx, f.rdb, queues)
	var pending map[laneKey]bool
	if err == nil {
		pending, err = lanesWithPending(ctx, f.rdb, asleep)
	}
	if !f.redisAnswers(ctx, err) {
		f.index.retry(queues)
		return
	}
	f.polled.Store(true)
	f.openBusy(queues, found, open, now.Add(dueSoon)) //nolint:contextcheck // the lanes outlive ctx
	f.wakeSleeping(asleep, pending)
	f.closeHeld()
	for _, key := range idle {
		if l := open[key]; found[key].hasWorkBy(now.Add(dueSoon)) {
			l.idleSince = time.Time{} // another replica has the work, or it is due soon
		} else if l.active.Load() == 0 && f.lane(key) == l {
			f.index.pollAt(key, found[key].due)
			f.close(key, l)
		}
	}
}

// idleLanes returns the open lanes whose gates sleep, and those that have run no handler for
// idleTimeout.
func idleLanes(open map[laneKey]*lane, now time.Time) (asleep, idle []laneKey) {
	for key, l := range open {
		if l.gate.Asleep() {
			asleep = append(asleep, key)
		}
		switch {
		case l.active.Load() > 0:
			l.idleSince = time.Time{}
		case l.idleSince.IsZero():
			l.idleSince = now
		case now.Sub(l.idleSince) >= idleTimeout:
			idle = append(idle, key)
		}
	}
	return asleep, idle
}

// openBusy opens the closed lanes that have work, and stores the numbers of pending tasks.
func (f *fleet) openBusy(asked []queueRef, found map[laneKey]laneDepth, open map[laneKey]*lane, soon time.Time) {
	depth := make(map[laneKey]int64, len(asked))
	for _, q := range asked {
		w := found[q.lane]
		depth[q.lane] = w.pending
		if w != (laneDepth{}) {
			f.index.add(q)
		}
		if open[q.lane] != nil {
			continue
		}
		f.index.pollAt(q.lane, w.due)
		if w.hasWorkBy(soon) {
			if l := f.ensure(q.lane); l != nil && w.pending > 0 {
				l.gate.Wake()
			}
		}
	}
	f.setDepth(depth)
}

// wakeSleeping wakes the lanes that sleep and have pending tasks: a plain asynq client sends
// no wake-up message.
func (f *fleet) wakeSleeping(asleep []laneKey, pending map[laneKey]bool) {
	none := make(map[laneKey]int64)
	for _, key := range asleep {
		l := f.lane(key)
		switch {
		case l == nil:
		case pending[key]:
			l.idleSince = time.Time{}
			l.gate.Wake()
		default:
			none[key] = 0
		}
	}
	f.setDepth(none)
}

// setDepth stores the numbers of pending tasks of some lanes.
func (f *fleet) setDepth(depth map[laneKey]int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for key, n := range depth {
		if n > 0 {
			f.depth[key] = n
		} else {
			delete(f.depth, key)
		}
	}
}
