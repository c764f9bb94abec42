package subprocess

import (
	"os"
	"testing"
)

// The status of a running process, and of one that has exited, which has no VmHWM.
func TestParseVMHWM(t *testing.T) {
	if n, err := parseVMHWM("Name:\twxcourier\nVmPeak:\t 1300000 kB\nVmHWM:\t   45056 kB\nVmRSS:\t   40000 kB\n"); n != 45056<<10 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if n, err := parseVMHWM("Name:\twxcourier\nState:\tZ (zombie)\n"); err == nil {
		t.Errorf("%d bytes from a status without VmHWM", n)
	}
}

// The figures of this process, which runs.
func TestRunningUsage(t *testing.T) {
	if _, err := runningCPU(os.Getpid()); err != nil {
		t.Error(err)
	}
	if peak, err := runningPeak(os.Getpid()); err != nil || peak < 1<<20 {
		t.Errorf("peak memory %d bytes, %v", peak, err)
	}
}
