package worker

import (
	"context"
	"net/http"
	"time"
)

// TrustForTest makes a replica trust the certificate of a test's image host.
func TrustForTest(r *Replica, c *http.Client) { r.deliverer.media.client.Transport = c.Transport }

// NewRunnerForTest returns the name of a new run.
func NewRunnerForTest(r *Replica) string { return r.deliverer.newRunner() }

// SetClockForTest replaces the clock of hours and expiry; call it before Run.
func SetClockForTest(r *Replica, now func() time.Time) { r.deliverer.now = now }

// SetPushDelayForTest replaces how long after a task was enqueued the push of its acceptance may come;
// call it before Run.
func SetPushDelayForTest(r *Replica, d time.Duration) { r.consents.PushDelay = d }

// OpenLanesForTest counts the open lanes.
func OpenLanesForTest(r *Replica) int { return len(r.fleet.snapshot()) }

// WaitingForTest returns the number of pending tasks at the replica's last poll.
func WaitingForTest(r *Replica) (n int64) {
	for _, d := range r.fleet.depths() {
		n += d
	}
	return n
}

// ReceiverUsersForTest returns the number of a replica's tasks that hold a receiver's lock or
// wait for one.
func ReceiverUsersForTest(r *Replica) (n int) {
	locks := r.deliverer.receivers
	locks.mu.Lock()
	defer locks.mu.Unlock()
	for _, receiver := range locks.receivers {
		n += receiver.users
	}
	return n
}

// PollForTest polls the lanes of a replica that does not run, and PollHoldsForTest its holds
// and held lanes.
func PollForTest(ctx context.Context, r *Replica)      { r.fleet.poll(ctx) }
func PollHoldsForTest(ctx context.Context, r *Replica) { r.fleet.pollHolds(ctx) }

// RefreshQueuesForTest makes such a replica read which queues exist.
func RefreshQueuesForTest(ctx context.Context, r *Replica) { r.fleet.refreshQueues(ctx) }

// SweepForTest makes a replica sweep without pauses, and end a task that asynq lacks in the
// first pass that confirms it; call it before Run.
func SweepForTest(r *Replica, retention time.Duration) {
	s := r.sweeper
	s.every = 5 * time.Millisecond
	s.config.MinAge, s.config.Confirm, s.config.Retention, s.config.Pace = 0, 0, retention, nil
}

// SetCallbackTimeoutForTest sets how long tasks wait for the push that ends them; call it before Run.
func SetCallbackTimeoutForTest(r *Replica, timeout time.Duration) {
	r.deliverer.callbackTimeout = timeout
}
