//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package apikey

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// tryLock locks a file against other processes; locked is false while another has it. The system
// releases the lock when the process ends in any way.
func tryLock(file *os.File) (unlock func(), locked bool, err error) {
	err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return func() {}, false, nil
	}
	return func() {}, err == nil, err // closing the file unlocks it
}

// keepOwner gives a file the owner of another one, where this process may.
func keepOwner(file *os.File, info fs.FileInfo) {
	if owner, ok := info.Sys().(*syscall.Stat_t); ok {
		_ = file.Chown(int(owner.Uid), int(owner.Gid))
	}
}
