package loadtest

import "syscall"

// apart starts a child in its own process group, so that the terminal's Ctrl-C does not reach it,
// and has it terminated when this process dies.
func apart() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}
