package main

import (
	"time"

	"golang.org/x/sys/unix"
)

// monotonic returns CLOCK_MONOTONIC in nanoseconds. All processes share this clock, and it is never
// set, so times of the stand-in and of this program can be compared.
func monotonic() int64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		panic(err) // Linux always has this clock
	}
	return t.Nano()
}

// seconds converts nanoseconds to seconds.
func seconds(nanos int64) float64 { return float64(nanos) / float64(time.Second) }
