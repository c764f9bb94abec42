package worker

import (
	"context"
	"errors"
	"time"

	"github.com/hibiken/asynq"

	"github.com/wxcourier/wxcourier/internal/asynqwire"
)

// handedBack is the error that makes asynq retry a task after a delay, or put it back into
// its queue.
type handedBack struct {
	delay  time.Duration // ignored unless place is asynqwire.RetrySet
	counts bool          // asynq counts a failed attempt
	why    string
	place  asynqwire.Place
}

func (e *handedBack) Error() string { return e.why }

// retryLater returns the error that makes asynq retry a task, without counting an attempt.
func retryLater(delay time.Duration, why string) error { return &handedBack{delay: delay, why: why} }

// retryDelay is asynq's RetryDelayFunc. asynq truncates the time of the retry to whole
// seconds; retryDelay adds up to one second, so that no task comes back early.
func retryDelay(_ int, err error, _ *asynq.Task) time.Duration {
	var back *handedBack
	if errors.As(err, &back) {
		if back.place != asynqwire.RetrySet {
			return asynqwire.RequeueDelay(back.place, time.Now())
		}
		if back.delay <= 0 {
			return 0
		}
		return back.delay + time.Second - time.Nanosecond
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return time.Hour // asynq's deadline has passed; lane.expire ended the task
	}
	return 0 // the lease was lost: the record decides when the runner counts as dead
}

// isFailure is asynq's IsFailure. asynq's retry count is our count of failed attempts, so
// only errors that count raise it.
func isFailure(err error) bool {
	var back *handedBack
	return errors.As(err, &back) && back.counts
}

// isHandedBack reports whether a task only has to wait.
func isHandedBack(err error) bool {
	var back *handedBack
	return errors.As(err, &back)
}
