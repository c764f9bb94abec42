//go:build !unix

package subprocess

import (
	"errors"
	"os"
	"time"
)

// OwnCPU returns errors.ErrUnsupported: it is implemented on Unix.
func OwnCPU() (time.Duration, error) { return 0, errors.ErrUnsupported }

// Suspend returns errors.ErrUnsupported: it is implemented on Unix.
func (p *Process) Suspend() error { return errors.ErrUnsupported }

// Resume returns errors.ErrUnsupported: it is implemented on Unix.
func (p *Process) Resume() error { return errors.ErrUnsupported }

func exitedPeak(*os.ProcessState) (int64, error) { return 0, errors.ErrUnsupported }
