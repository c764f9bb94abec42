//go:build !linux

package subprocess

import (
	"errors"
	"syscall"
	"time"
)

func systemAttributes() *syscall.SysProcAttr { return nil }

func runningCPU(int) (time.Duration, error) { return 0, errors.ErrUnsupported }

func runningPeak(int) (int64, error) { return 0, errors.ErrUnsupported }
