package worker

import (
	"fmt"
	"testing"
	"time"

	"github.com/hibiken/asynq"
)

// TestRetryDelayAndIsFailure: only errors that count raise asynq's retry count, and no task is
// retried early although asynq truncates the time to whole seconds.
func TestRetryDelayAndIsFailure(t *testing.T) {
	counted := fmt.Errorf("w: %w", &handedBack{delay: 1500 * time.Millisecond, counts: true})
	for _, c := range []struct {
		name    string
		err     error
		failure bool
		early   time.Duration
	}{
		{"a failed attempt", counted, true, 1500 * time.Millisecond},
		{"held back", retryLater(time.Second, "?"), false, time.Second},
		{"a lost lease", asynq.ErrLeaseExpired, false, 0},
	} {
		if isFailure(c.err) != c.failure {
			t.Errorf("%s: failure %v", c.name, !c.failure)
		}
		now := time.Now()
		back := time.Unix(now.Add(retryDelay(0, c.err, nil)).Unix(), 0)
		if c.early > 0 && back.Sub(now) < c.early {
			t.Errorf("%s: retried after %v", c.name, back.Sub(now))
		}
	}
}
