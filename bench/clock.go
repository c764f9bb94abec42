package main

import (
	"time"

	"golang.org/x/sys/unix"
)

// monotonic is the machine's own clock in nanoseconds. All processes share it, and nothing
// sets it: an instant in the stand-in and one in this program may be compared.
func monotonic() int64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		panic(err) // the clock is there wherever this program builds
	}
	return t.Nano()
}

// seconds turns nanoseconds into seconds.
func seconds(nanos int64) float64 { return float64(nanos) / float64(time.Second) }
