//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package journal

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// lock locks the file for this process. The system releases the lock when the process ends in
// any way.
func lock(file *os.File) (unlock func(), err error) {
	err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, ErrInUse
	}
	if err != nil {
		return nil, fmt.Errorf("lock the journal: %w", err)
	}
	return func() {}, nil // closing the file does
}
