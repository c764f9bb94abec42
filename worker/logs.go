package worker

import (
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// logAgainAfter is how long a complaint that goes on is not repeated in the log.
const logAgainAfter = time.Minute

// logThrottle remembers what was said, so that an hour without Redis is told in some lines
// and not in thousands. The zero value has said nothing.
type logThrottle struct {
	mu   sync.Mutex
	last map[string]time.Time // guarded by mu; by kind of complaint
}

// allow tells whether a complaint of this kind was not made for sayAgain.
func (r *logThrottle) allow(kind string, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if last, said := r.last[kind]; said && now.Sub(last) < logAgainAfter {
		return false
	}
	if r.last == nil {
		r.last = make(map[string]time.Time)
	}
	r.last[kind] = now
	return true
}

// reset forgets a complaint, and tells whether it had been made.
func (r *logThrottle) reset(kind string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, said := r.last[kind]
	delete(r.last, kind)
	return said
}

// asynqLog passes asynq's own log on, two levels quieter for its chatter: what it calls
// info is a lane that opens, what it calls a warning is a retry. What it repeats every
// second while Redis is away is passed on once a minute.
type asynqLog struct {
	log  *slog.Logger
	throttle *logThrottle
}

func (l asynqLog) Debug(args ...any) { l.log.Debug("asynq: " + fmt.Sprint(args...)) }
func (l asynqLog) Info(args ...any)  { l.log.Debug("asynq: " + fmt.Sprint(args...)) }
func (l asynqLog) Warn(args ...any)  { l.log.Debug("asynq: " + fmt.Sprint(args...)) }
func (l asynqLog) Error(args ...any) {
	text := fmt.Sprint(args...)
	kind, _, _ := strings.Cut(text, ":")
	kind, _, _ = strings.Cut(kind, "[") // the ids of tasks
	if l.throttle.allow(kind, time.Now()) {
		l.log.Warn("asynq: " + text)
	}
}
func (l asynqLog) Fatal(args ...any) { l.log.Error("asynq: " + fmt.Sprint(args...)) }
