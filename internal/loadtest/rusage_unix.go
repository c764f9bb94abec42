//go:build unix

package loadtest

import (
	"os"
	"runtime"
	"syscall"
	"time"
)

// ownCPU returns the CPU time of this process so far; false: unknown.
func ownCPU() (time.Duration, bool) {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0, false
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), true
}

// peakOf returns the peak resident memory of an exited process in bytes; 0: unknown.
func peakOf(state *os.ProcessState) int64 {
	u, ok := state.SysUsage().(*syscall.Rusage)
	if !ok {
		return 0
	}
	peak := int64(u.Maxrss) //nolint:unconvert // the type depends on the system
	if runtime.GOOS != "darwin" && runtime.GOOS != "ios" {
		peak <<= 10 // in KiB elsewhere
	}
	return peak
}
