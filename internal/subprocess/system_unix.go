//go:build unix

package subprocess

import (
	"errors"
	"os"
	"runtime"
	"syscall"
	"time"
)

// OwnCPU returns the CPU time of this process so far. It returns errors.ErrUnsupported on systems
// other than Unix.
func OwnCPU() (time.Duration, error) {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0, os.NewSyscallError("getrusage", err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), nil
}

// Suspend suspends the process with SIGSTOP until Resume. It returns errors.ErrUnsupported on
// systems other than Unix.
func (p *Process) Suspend() error { return p.cmd.Process.Signal(syscall.SIGSTOP) }

// Resume continues a suspended process.
func (p *Process) Resume() error { return p.cmd.Process.Signal(syscall.SIGCONT) }

// exitedPeak returns the peak resident memory of an exited process in bytes.
func exitedPeak(state *os.ProcessState) (int64, error) {
	u, ok := state.SysUsage().(*syscall.Rusage)
	if !ok {
		return 0, errors.ErrUnsupported
	}
	peak := int64(u.Maxrss) //nolint:unconvert // the type depends on the system
	if runtime.GOOS != "darwin" && runtime.GOOS != "ios" {
		peak <<= 10 // in KiB elsewhere
	}
	return peak, nil
}
