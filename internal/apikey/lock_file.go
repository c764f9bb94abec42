//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package apikey

import (
	"errors"
	"io/fs"
	"os"
)

// tryLock creates a lock file, on systems without flock; locked is false while another process has
// it. The lock file of a killed process must be deleted by hand.
func tryLock(file *os.File) (unlock func(), locked bool, err error) {
	name := file.Name() + ".lock"
	lockFile, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return func() {}, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	_ = lockFile.Close()
	return func() { _ = os.Remove(name) }, true, nil
}

// keepOwner does nothing: a new file has the owner of its folder.
func keepOwner(*os.File, fs.FileInfo) {}
