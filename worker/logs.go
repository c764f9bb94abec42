package worker

import (
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// logAgainAfter is the shortest interval between two log lines of one kind.
const logAgainAfter = time.Minute

// logThrottle limits repeated log lines, so that an hour without Redis costs some lines and
// not thousands. The zero value is ready to use.
type logThrottle struct {
	mu   sync.Mutex
	last map[string]time.Time // guarded by mu; by kind of line
}

// allow reports whether a line of this kind may be logged: the last one was at least
// logAgainAfter ago.
func (r *logThrottle) allow(kind string, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if last, logged := r.last[kind]; logged && now.Sub(last) < logAgainAfter {
		return false
	}
	if r.last == nil {
		r.last = make(map[string]time.Time)
	}
	r.last[kind] = now
	return true
}

// reset forgets a kind of line, and reports whether one had been logged.
func (r *logThrottle) reset(kind string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, logged := r.last[kind]
	delete(r.last, kind)
	return logged
}

// asynqLog forwards asynq's log at lower levels: its info lines report servers that start
// and stop, its warnings report retries; both are logged at debug. An error that asynq
// repeats every second while Redis is away is logged once a minute, at warn.
type asynqLog struct {
	log      *slog.Logger
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
