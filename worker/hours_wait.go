package worker

import (
	"log/slog"
	"sync"
	"time"
)

// outside is why a task is handed back at night.
const outside = "outside of the app's hours"

// resting tells whether a task has to wait for its app's hours, and for how long: until
// they open, or until the task expires, so that its outcome does not wait for the morning.
// One that has expired does not wait: it ends as it comes.
func (r *Replica) resting(j *job) (wait time.Duration, rests bool) {
	if j.IgnoreHours {
		return 0, false
	}
	now := r.now()
	at, open := r.apps[j.App].Hours.Opens(j.Type, now)
	expires := !j.NotAfter.IsZero() && j.NotAfter.Before(at)
	if open || expires && now.After(j.NotAfter) {
		return 0, false
	}
	if r.nights.first(laneKey{j.App, j.Type}, at) {
		r.log.Info(outside, slog.String("app", j.App), slog.String("type", j.Type), slog.Time("until", at))
	}
	if expires {
		at = j.NotAfter.Add(time.Nanosecond)
	}
	return at.Sub(now), true
}

// nights remembers until when a lane was said to rest: it is said once, not once a task.
type nights struct {
	mu    sync.Mutex
	until map[laneKey]time.Time // guarded by mu
}

func (n *nights) first(key laneKey, until time.Time) bool {
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
