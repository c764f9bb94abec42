//go:build unix

package loadtest

import (
	"os"
	"runtime"
	"syscall"
	"time"
)

// ownCPU is what this process has used so far.
func ownCPU() (time.Duration, bool) {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0, false
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), true
}

// peakOf is the most memory that an ended process had resident, in bytes.
func peakOf(state *os.ProcessState) int64 {
	u, ok := state.SysUsage().(*syscall.Rusage)
	if !ok {
		return 0
	}
	peak := int64(u.Maxrss) //nolint:unconvert // its type depends on the system
	if runtime.GOOS != "darwin" && runtime.GOOS != "ios" {
		peak <<= 10 // others count in KiB
	}
	return peak
}
