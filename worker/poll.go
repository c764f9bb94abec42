package worker

import (
	"context"
	"log/slog"
	"time"
)

// lookForQueues learns which queues there are. What it cannot learn now, the next one does.
func (f *fleet) lookForQueues(ctx context.Context) {
	f.answers(ctx, f.index.refresh(ctx, f.replica.rdb, f.replica.apps))
}

// answers tells whether Redis has answered, and the log once when that changes.
func (f *fleet) answers(ctx context.Context, err error) bool {
	if err != nil {
		if ctx.Err() == nil && f.said.due(redisAway, time.Now()) {
			f.replica.log.Warn(redisAway, slog.Any("err", err))
		}
		return false
	}
	if f.said.over(redisAway) {
		f.replica.log.Info("Redis answers again")
	}
	return true
}

// look asks Redis where there is work: of the closed lanes some, those of the open ones
// that sleep. It wakes and opens the lanes that have work, and closes those that have had
// none for a while or are held.
//
// An open lane that is awake finds its tasks by itself, and asynq moves there what is due.
func (f *fleet) look(ctx context.Context) {
	now, open := time.Now(), f.snapshot()
	var queues []queueRef
	for _, q := range f.index.next(now) {
		if open[q.lane] == nil && !f.holds.stop(q.lane) {
			queues = append(queues, q)
		}
	}
	asleep, idle := atRest(open, now)
	for _, key := range idle {
		queues = append(queues, queuesOf(key)...)
	}
	found, err := survey(ctx, f.replica.rdb, queues)
	var pending map[laneKey]bool
	if err == nil {
		pending, err = withPending(ctx, f.replica.rdb, asleep)
	}
	if !f.answers(ctx, err) {
		f.index.again(queues)
		return
	}
	f.replica.looked.Store(true)
	f.openBusy(queues, found, open, now.Add(dueSoon))
	f.wakeSleepers(asleep, pending)
	f.closeHeld()
	for _, key := range idle {
		if l := open[key]; found[key].now(now.Add(dueSoon)) {
			l.idle = time.Time{} // work of another replica's, or for later
		} else if l.active.Load() == 0 && f.lane(key) == l {
			f.index.later(key, found[key].due)
			f.close(key, l)
		}
	}
}

// atRest returns the open lanes that wait for work, and those in which nothing has run for
// a while.
func atRest(open map[laneKey]*lane, now time.Time) (asleep, idle []laneKey) {
	for key, l := range open {
		if l.gate.asleep.Load() {
			asleep = append(asleep, key)
		}
		switch {
		case l.active.Load() > 0:
			l.idle = time.Time{}
		case l.idle.IsZero():
			l.idle = now
		case now.Sub(l.idle) >= idleFor:
			idle = append(idle, key)
		}
	}
	return asleep, idle
}

// openBusy opens the closed lanes that were found to have work, and keeps what was found.
func (f *fleet) openBusy(asked []queueRef, found map[laneKey]work, open map[laneKey]*lane, soon time.Time) {
	depth := make(map[laneKey]int64, len(asked))
	for _, q := range asked {
		w := found[q.lane]
		depth[q.lane] = w.pending
		if w != (work{}) {
			f.index.add(q)
		}
		if open[q.lane] != nil {
			continue
		}
		f.index.later(q.lane, w.due)
		if w.now(soon) {
			if l := f.ensure(q.lane); l != nil && w.pending > 0 {
				l.gate.rouse()
			}
		}
	}
	f.setDepth(depth)
}

// wakeSleepers rouses the lanes that sleep although they have tasks pending: a plain asynq
// client has told nobody.
func (f *fleet) wakeSleepers(asleep []laneKey, pending map[laneKey]bool) {
	none := make(map[laneKey]int64)
	for _, key := range asleep {
		l := f.lane(key)
		switch {
		case l == nil:
		case pending[key]:
			l.idle = time.Time{}
			l.gate.rouse()
		default:
			none[key] = 0
		}
	}
	f.setDepth(none)
}

// setDepth keeps how many tasks are pending in some lanes.
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
