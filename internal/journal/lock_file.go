//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// lock creates a lock file next to the journal, on systems without flock. The lock file of a
// killed process must be deleted by hand.
func lock(file *os.File) (unlock func(), err error) {
	name := file.Name() + ".lock"
	lockFile, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("%w (if no other run is active, a run was killed: delete %s)", ErrInUse, name)
	}
	if err != nil {
		return nil, fmt.Errorf("lock the journal: %w", err)
	}
	_ = lockFile.Close()
	return func() { _ = os.Remove(name) }, nil
}
