package subprocess

import "time"

// CPU returns the CPU time of the process so far, in steps of 10 ms, or its whole CPU time after
// its exit. For a running process it returns errors.ErrUnsupported on systems other than Linux.
func (p *Process) CPU() (time.Duration, error) {
	if p.exited() {
		return p.cmd.ProcessState.UserTime() + p.cmd.ProcessState.SystemTime(), nil
	}
	return runningCPU(p.PID())
}

// PeakMemory returns the peak resident memory of the process in bytes. It returns
// errors.ErrUnsupported for a running process on systems other than Linux, and for any process on
// systems other than Unix.
func (p *Process) PeakMemory() (int64, error) {
	if p.exited() {
		return exitedPeak(p.cmd.ProcessState)
	}
	return runningPeak(p.PID())
}
