package dispatch

import (
	"math/rand/v2"
	"time"
)

// The schedules: the length of the nth wait, with the running total beside each line. The
// last line is repeated.
var (
	// retries is for temporary errors of WeChat, and for a WeChat that cannot be reached.
	// With the default of eight attempts the last attempt is made after 1 h 45 min.
	retries = []time.Duration{
		5 * time.Second,  // 5 s: a shorter wait would meet the same busy server
		15 * time.Second, // 20 s
		1 * time.Minute,  // 1 min 20 s
		3 * time.Minute,  // 4 min 20 s
		10 * time.Minute, // 14 min 20 s
		30 * time.Minute, // 44 min 20 s
		1 * time.Hour,    // 1 h 44 min 20 s
	}
	// appProbes is for an app that gets no token until an operator corrects its settings.
	appProbes = []time.Duration{
		10 * time.Second, // 10 s
		30 * time.Second, // 40 s
		1 * time.Minute,  // 1 min 40 s
		5 * time.Minute,  // 6 min 40 s
		15 * time.Minute, // 21 min 40 s
		30 * time.Minute, // 51 min 40 s
	}
	// tokenWaits is for a token endpoint that is busy or cannot be reached.
	tokenWaits = []time.Duration{
		2 * time.Second,  // 2 s
		5 * time.Second,  // 7 s
		15 * time.Second, // 22 s
		30 * time.Second, // 52 s
		1 * time.Minute,  // 1 min 52 s
	}
	// capabilityProbes is for an API that WeChat took away from an app.
	capabilityProbes = []time.Duration{
		5 * time.Minute,  // 5 min
		30 * time.Minute, // 35 min
		2 * time.Hour,    // 2 h 35 min
		6 * time.Hour,    // 8 h 35 min
	}
	// laneProbes is for a lane whose breaker has tripped.
	laneProbes = []time.Duration{
		1 * time.Minute,  // 1 min
		5 * time.Minute,  // 6 min
		15 * time.Minute, // 21 min
		30 * time.Minute, // 51 min
		1 * time.Hour,    // 1 h 51 min
	}
	// templateProbes is for a template that WeChat took away.
	templateProbes = []time.Duration{
		10 * time.Minute, // 10 min
		1 * time.Hour,    // 1 h 10 min
		6 * time.Hour,    // 7 h 10 min
	}
)

// backoff returns a wait function that follows a schedule, with jitter.
func backoff(schedule []time.Duration) func(time.Time, int) time.Duration {
	return func(_ time.Time, n int) time.Duration {
		return jitter(schedule[min(max(n, 0), len(schedule)-1)])
	}
}

// after returns a wait function of constant length, with jitter.
func after(d time.Duration) func(time.Time, int) time.Duration {
	return func(time.Time, int) time.Duration { return jitter(d) }
}

// until returns a wait function that waits until the end of a span.
func until(end func(time.Time) time.Time) func(time.Time, int) time.Duration {
	return func(now time.Time, _ int) time.Duration { return end(now).Sub(now) }
}

// jitter adds up to a fifth, so that tasks that failed together are not retried together.
func jitter(d time.Duration) time.Duration { return d + rand.N(d/5+1) } //nolint:gosec // no secret

// RetryDelay returns the delay before the nth retry after temporary errors, from 0.
func RetryDelay(n int) time.Duration { return retries[min(n, len(retries)-1)] }
