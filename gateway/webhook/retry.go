package webhook

import (
	"math/rand/v2"
	"time"
)

// retrySchedule returns the pauses before the repetitions of a call. After the last one an endpoint
// is still tried, at the last pause: its results are kept as long as the stream has them.
func retrySchedule() []time.Duration {
	return []time.Duration{
		5 * time.Second,  // total: 5s
		30 * time.Second, // 35s
		2 * time.Minute,  // 2m35s
		10 * time.Minute, // 12m35s
		30 * time.Minute, // 42m35s
		time.Hour,        // 1h42m35s
		2 * time.Hour,    // 3h42m35s
		4 * time.Hour,    // 7h42m35s
		8 * time.Hour,    // 15h42m35s
		8 * time.Hour,    // 23h42m35s
	}
}

// jitter is the share by which a pause differs at most, so that the apps of an endpoint that comes
// back are not sent at once.
const jitter = 0.1

// pause returns the pause after a number of failed calls: what the endpoint asks for, or else that of
// the schedule.
func pause(schedule []time.Duration, failures int, asked time.Duration) time.Duration {
	if asked > 0 {
		return asked
	}
	wait := schedule[min(max(failures, 1), len(schedule))-1]
	return time.Duration(float64(wait) * (1 + jitter*(2*rand.Float64()-1))) //nolint:gosec // not a secret
}
