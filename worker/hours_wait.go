package worker

import (
	"log/slog"
	"sync"
	"time"

	"github.com/wxcourier/wxcourier/internal/taskstate"
)

// outsideHours is the reason for handing a task back, and a log message.
const outsideHours = taskstate.OutsideHours

// hoursWait reports whether a task must wait for its app's hours, and how long: until they
// open, or until the task expires, so that its outcome is recorded at that time. A task that
// has expired does not wait.
func (d *deliverer) hoursWait(j *job) (wait time.Duration, closed bool) {
	if j.IgnoreHours {
		return 0, false
	}
	now := d.now()
	at, open := d.apps[j.App].Hours.NextOpen(j.Type, now)
	expires := !j.NotAfter.IsZero() && j.NotAfter.Before(at)
	if open || expires && now.After(j.NotAfter) {
		return 0, false
	}
	if d.loggedHours.shouldLog(laneKey{j.App, j.Type}, at) {
		d.log.Info(outsideHours, slog.String("app", j.App), slog.String("type", j.Type), slog.Time("until", at))
	}
	if expires {
		at = j.NotAfter.Add(time.Nanosecond)
	}
	return at.Sub(now), true
}

// loggedHours remembers for which opening time the wait of a lane was logged, so that it is
// logged once and not for each task.
type loggedHours struct {
	mu    sync.Mutex
	until map[laneKey]time.Time // guarded by mu
}

// shouldLog reports whether a wait until this opening time was not logged yet.
func (n *loggedHours) shouldLog(key laneKey, until time.Time) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.until[key].Equal(until) {
		return false
	}
	if n.until == nil {
		n.until = make(map[laneKey]time.Time)
	}
	n.until[key] = until
	return true
}
