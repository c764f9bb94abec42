// Package clock measures and waits: a clock that all processes share, and the delays of this
// program's own timers.
package clock

import (
	"context"
	"time"

	"golang.org/x/sys/unix"
)

// Monotonic returns CLOCK_MONOTONIC in nanoseconds. All processes share this clock, and it is never
// set, so times of the stand-in and of this program can be compared.
func Monotonic() int64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		panic(err) // Linux always has this clock
	}
	return t.Nano()
}

// Seconds converts nanoseconds to seconds.
func Seconds(nanos int64) float64 { return float64(nanos) / float64(time.Second) }

// Pause waits for d. It returns an error when ctx ends first.
func Pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
