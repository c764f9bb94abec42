package worker

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/wxcourier/wxcourier/tasks"
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

// rejectedLog logs rejected tasks: the first of a kind in full, and once a minute how many more
// there were. A campaign with a wrong template would otherwise log a line for each message.
//
// The lines add up: of each kind, the lines in full and the sums together count every task.
type rejectedLog struct {
	log *slog.Logger

	mu   sync.Mutex
	more map[rejectedKind]*rejectedSum // guarded by mu; the kinds since the last flush
}

// rejectedKind is what rejected tasks have in common. reason leaves out details.
type rejectedKind struct {
	app, typ, template string
	errcode            int
	reason             string
}

// rejectedSum counts the tasks of a kind after the first.
type rejectedSum struct {
	tasks int
	since time.Time
}

const (
	sumRejectedEvery = time.Minute
	// maxRejectedKinds bounds the kinds between two sums. Template ids come from producers:
	// beyond it, the kinds leave them out.
	maxRejectedKinds = 1000
)

// first counts a rejected task, and reports whether it is the first of its kind since the last
// flush, which is to be logged in full.
func (r *rejectedLog) first(result tasks.Result, template string) bool {
	reason, _, _ := strings.Cut(result.Reason, ":")
	kind := rejectedKind{result.App, result.Type, template, result.ErrCode, reason}
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, known := r.more[kind]; !known && len(r.more) >= maxRejectedKinds {
		kind.template = ""
	}
	if sum, known := r.more[kind]; known {
		sum.tasks++
		return false
	}
	if r.more == nil {
		r.more = make(map[rejectedKind]*rejectedSum)
	}
	r.more[kind] = &rejectedSum{since: time.Now()}
	return true
}

// run logs the sums once a minute until ctx ends.
func (r *rejectedLog) run(ctx context.Context) {
	ticker := time.NewTicker(sumRejectedEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			r.flush()
		case <-ctx.Done():
			return
		}
	}
}

// flush logs how many more tasks of each kind were rejected since the last flush.
func (r *rejectedLog) flush() {
	r.mu.Lock()
	sums := r.more
	r.more = nil
	r.mu.Unlock()
	for kind, sum := range sums {
		if sum.tasks == 0 {
			continue
		}
		r.log.Info("more tasks rejected", slog.String("app", kind.app), slog.String("type", kind.typ),
			slog.Int("tasks", sum.tasks), slog.String("template", kind.template), slog.Int("errcode", kind.errcode),
			slog.String("reason", kind.reason), slog.Time("since", sum.since))
	}
}
