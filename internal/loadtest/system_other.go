//go:build !linux

package loadtest

import "syscall"

func apart() *syscall.SysProcAttr { return nil }
