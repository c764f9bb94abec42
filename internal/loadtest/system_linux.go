package loadtest

import "syscall"

// apart keeps a child from the terminal's Ctrl-C, which it is told of in its turn, and
// ends it should this process die.
func apart() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}
