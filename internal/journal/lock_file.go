//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// lock makes a file beside the journal, where the system has no flock. One that a killed
// process left has to be deleted by hand.
func lock(file *os.File) (unlock func(), err error) {
	name := file.Name() + ".lock"
	beside, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("%w (if no other run is under way, one was killed: delete %s)", ErrInUse, name)
	}
	if err != nil {
		return nil, fmt.Errorf("lock the journal: %w", err)
	}
	_ = beside.Close()
	return func() { _ = os.Remove(name) }, nil
}
