package worker

import (
	"context"
	"net/http"
	"time"
)

// TrustForTest makes a replica trust the certificate of a test's own image host.
func TrustForTest(r *Replica, c *http.Client) { r.mediaClient.Transport = c.Transport }

// NewRunnerForTest names a run.
func NewRunnerForTest(r *Replica) string { return r.newRunner() }

// SetClockForTest replaces the clock that hours and expiry go by; call it before Run.
func SetClockForTest(r *Replica, now func() time.Time) { r.now = now }

// OpenLanesForTest counts the lanes that are open.
func OpenLanesForTest(r *Replica) int { return len(r.fleet.snapshot()) }

// WaitingForTest counts the pending tasks that the replica knows of.
func WaitingForTest(r *Replica) (n int64) {
	for _, d := range r.fleet.depths() {
		n += d
	}
	return n
}

// PollForTest looks at the lanes of a replica that does not run, and LookAtHoldsForTest
// at its holds and held lanes.
func PollForTest(ctx context.Context, r *Replica)      { r.fleet.poll(ctx) }
func PollHoldsForTest(ctx context.Context, r *Replica) { r.fleet.pollHolds(ctx) }

// RefreshQueuesForTest has such a replica learn which queues there are.
func RefreshQueuesForTest(ctx context.Context, r *Replica) { r.fleet.refreshQueues(ctx) }

// SweepForTest makes a replica sweep at once and again and again, and hold what asynq does
// not have for missing as soon as it was noted; call it before Run.
func SweepForTest(r *Replica, retention time.Duration) {
	s := r.sweeper
	s.every = 5 * time.Millisecond
	s.config.MinAge, s.config.Confirm, s.config.Retention, s.config.Pace = 0, 0, retention, nil
}
