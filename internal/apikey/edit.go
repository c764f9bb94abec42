package apikey

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// Add adds a key with these permissions to a file, which it creates if there is none, and returns
// the key: it is in no file. It sets Created. Several processes may do so at once.
func Add(path string, k Key) (key string, err error) {
	if !ValidID(k.ID) {
		return "", fmt.Errorf(`%.80q is not an id: 1 to 64 of a-z, 0-9, "-" and ".", and not "local"`, k.ID)
	}
	err = edit(path, true, func(f *file, text []byte, out *os.File) error {
		if slices.ContainsFunc(f.keys, func(other *Key) bool { return other.ID == k.ID }) {
			return fmt.Errorf("%s has a key %s already; choose another id, or revoke that key first", path, k.ID)
		}
		k.Created = time.Now().UTC().Truncate(time.Second)
		key, k.hash = generate(k.ID)
		return appendLine(out, text[:f.whole], k.line())
	})
	if err != nil {
		return "", err
	}
	return key, nil
}

// appendLine appends a line to a file with this text, in place of what follows the text.
func appendLine(out *os.File, text, line []byte) error {
	if len(text) > 0 && text[len(text)-1] != '\n' {
		line = append([]byte("\n"), line...)
	}
	if err := out.Truncate(int64(len(text))); err != nil {
		return err
	}
	if _, err := out.WriteAt(line, int64(len(text))); err != nil {
		return err
	}
	return out.Sync()
}

// Revoke removes keys from a file. All must be there.
func Revoke(path string, ids []string) error {
	return edit(path, false, func(f *file, text []byte, out *os.File) error {
		var missing []string
		remove := make(map[int]bool) // by line
		for _, id := range ids {
			at := slices.IndexFunc(f.keys, func(k *Key) bool { return k.ID == id })
			if at < 0 {
				missing = append(missing, fmt.Sprintf("%.80q", id))
				continue
			}
			remove[f.lines[at]] = true
		}
		if len(missing) > 0 {
			return fmt.Errorf("%s has no key %s; nothing was revoked (`wxcourier key list` lists the keys)", path, strings.Join(missing, ", "))
		}
		var rest []byte
		for i, line := range bytes.SplitAfter(text[:f.whole], []byte("\n")) {
			if !remove[i+1] {
				rest = append(rest, line...)
			}
		}
		return replace(out, rest)
	})
}

// replace replaces a file by one with another text, so that a reader sees one of them whole.
func replace(old *os.File, text []byte) (err error) {
	info, err := old.Stat()
	if err != nil {
		return err
	}
	temporary, err := os.CreateTemp(filepath.Dir(old.Name()), "."+filepath.Base(old.Name())+"-*")
	if err != nil {
		return err
	}
	defer func() {
		_ = temporary.Close()
		if err != nil {
			_ = os.Remove(temporary.Name())
		}
	}()
	if _, err := temporary.Write(text); err != nil {
		return err
	}
	if err := temporary.Chmod(info.Mode().Perm()); err != nil {
		return err
	}
	keepOwner(temporary, info)
	if err := temporary.Sync(); err != nil {
		return err
	}
	return os.Rename(temporary.Name(), old.Name())
}

// edit changes a file of keys while no other process does. change gets the file's keys, its text
// and the open file.
func edit(path string, create bool, change func(f *file, text []byte, out *os.File) error) error {
	path, err := resolve(path)
	if err != nil {
		return err
	}
	out, unlock, err := openLocked(path, create)
	switch {
	case errors.Is(err, fs.ErrNotExist) && create:
		return fmt.Errorf("the folder %s does not exist: create it", filepath.Dir(path))
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s does not exist; `wxcourier key new` makes it", path)
	case err != nil:
		return err
	}
	defer unlock()
	f, text, err := readFile(path)
	if err != nil {
		return err
	}
	return change(f, text, out)
}

// resolve follows symbolic links, so that a replaced file stays where it is.
func resolve(path string) (string, error) {
	resolved, err := filepath.EvalSymlinks(path)
	if errors.Is(err, fs.ErrNotExist) {
		return path, nil
	}
	return resolved, err
}

// lockTimeout is how long edit waits for another process.
const lockTimeout = 10 * time.Second

// openLocked opens a file and locks it against other edits. The file is the one at path: another
// process may have replaced it between the opening and the lock.
func openLocked(path string, create bool) (file *os.File, unlock func(), err error) {
	flags := os.O_RDWR
	if create {
		flags |= os.O_CREATE
	}
	for deadline := time.Now().Add(lockTimeout); ; time.Sleep(10 * time.Millisecond) {
		file, err := os.OpenFile(path, flags, 0o600) //nolint:gosec // the operator names the file
		if err != nil {
			return nil, nil, err
		}
		release, locked, err := tryLock(file)
		if err != nil {
			_ = file.Close()
			return nil, nil, err
		}
		unlock := func() { release(); _ = file.Close() }
		if locked && current(path, file) {
			return file, unlock, nil
		}
		unlock()
		if time.Now().After(deadline) {
			return nil, nil, fmt.Errorf("%s: another process has changed it for %v without an end", path, lockTimeout)
		}
	}
}

// current reports whether an open file is still the one at path.
func current(path string, file *os.File) bool {
	now, err := os.Stat(path)
	if err != nil {
		return false
	}
	opened, err := file.Stat()
	return err == nil && os.SameFile(now, opened)
}

// List returns the keys of a file, in its order, expired ones included.
func List(path string) ([]*Key, error) {
	f, _, err := readFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s does not exist; `wxcourier key new` makes it", path)
	}
	if err != nil {
		return nil, err
	}
	return f.keys, nil
}

// LooseMode reports whether users other than the owner may change a file, or users outside its group
// may read it, and its mode.
func LooseMode(path string) (mode fs.FileMode, loose bool) {
	info, err := os.Stat(path)
	if err != nil || runtime.GOOS == "windows" { // whose modes say nothing
		return 0, false
	}
	mode = info.Mode().Perm()
	return mode, mode&0o027 != 0
}
