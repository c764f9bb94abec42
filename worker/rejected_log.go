package worker

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/wxcourier/wxcourier/tasks"
)

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
