package worker

import (
	"log/slog"
	"sync"
	"time"
)

// outsideHours is why a task is handed back at night.
const outsideHours = "outside of the app's hours"

// hoursWait tells whether a task has to wait for its app's hours, and for how long: until
// they open, or until the task expires, so that its outcome does not wait for the morning.
// One that has expired does not wait: it ends as it comes.
func (r *Replica) hoursWait(j *job) (wait time.Duration, rests bool) {
	if j.IgnoreHours {
		return 0, false
	}
	now := r.now()
	at, open := r.apps[j.App].Hours.Opens(j.Type, now)
	expires := !j.NotAfter.IsZero() && j.NotAfter.Before(at)
	if open || expires && now.After(j.NotAfter) {
		return 0, false
	}
	if r.loggedHours.shouldLog(laneKey{j.App, j.Type}, at) {
		r.log.Info(outsideHours, slog.String("app", j.App), slog.String("type", j.Type), slog.Time("until", at))
	}
	if expires {
		at = j.NotAfter.Add(time.Nanosecond)
	}
	return at.Sub(now), true
}

// loggedHours remembers until when a lane was said to rest: it is said once, not once a task.
type loggedHours struct {
	mu    sync.Mutex
	until map[laneKey]time.Time // guarded by mu
}

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
