package redrive

import (
	"context"
	"errors"
	"slices"
	"time"
)

// Bounded redrives the tasks of some apps for a bounded time, as a request does: those with the ids,
// which are of one app, or with nil ids all that match the filter. more is true if the time was over
// before all tasks were looked at. Repeating it is safe, since a task that waits again has no outcome
// and does not match.
func Bounded(ctx context.Context, within time.Duration, cfg Config, apps, ids []string) (counts Counts, more bool, err error) {
	bounded, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	r := New(cfg)
	for _, app := range apps {
		before := r.Counts()
		if len(ids) > 0 {
			err = r.Redrive(bounded, app, slices.Values(ids))
		} else {
			err = r.Redrive(bounded, app, nil)
		}
		if n := r.Counts().Since(before); n > 0 && cfg.OnRedriven != nil {
			cfg.OnRedriven(app, n)
		}
		if err != nil {
			break
		}
	}
	n := r.Counts()
	some := n.Redriven+n.Resumed+n.Unmatched+n.Expired+n.NoPayload+n.Busy > 0
	if some && ctx.Err() == nil && errors.Is(bounded.Err(), context.DeadlineExceeded) { // without any Redis may not answer
		more, err = true, nil
	}
	return n, more, err
}
