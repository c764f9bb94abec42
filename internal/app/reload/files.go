package reload

import (
	"maps"
	"os"
	"path/filepath"
	"time"

	"github.com/wxcourier/wxcourier/configs"
)

// coarse is longer than the steps of the times of change of any file system. A file that was
// changed less than that before it was read may have changed again without a new time.
const coarse = 3 * time.Second

// fileState is what is seen of a file without reading it.
type fileState struct {
	target  string // without symbolic links: Kubernetes replaces a link to change a whole folder
	info    os.FileInfo
	missing bool
}

func stateOf(path string) fileState {
	info, err := os.Stat(path)
	if err != nil {
		return fileState{missing: true}
	}
	target, _ := filepath.EvalSymlinks(path)
	return fileState{target: target, info: info}
}

func (s fileState) same(o fileState) bool {
	if s.missing || o.missing {
		return s.missing == o.missing
	}
	return s.target == o.target && os.SameFile(s.info, o.info) && s.info.Size() == o.info.Size() &&
		s.info.ModTime().Equal(o.info.ModTime()) && s.info.Mode() == o.info.Mode()
}

// recent reports whether a file had just been changed at now.
func (s fileState) recent(now time.Time) bool {
	return !s.missing && now.Sub(s.info.ModTime()).Abs() < coarse
}

// fileWatch tells when files have changed since they were read.
type fileWatch struct {
	paths  []string
	atRead map[string]fileState // when they were read
	seen   map[string]fileState // when they were last looked at
	again  bool                 // a file may have changed since without a trace
}

// read notes the files that were read just now.
func (f *fileWatch) read(paths []string) {
	before, now := f.seen, time.Now()
	f.paths, f.again = paths, false
	f.atRead = f.look()
	f.seen = f.atRead
	for path, s := range f.atRead {
		was, known := before[path]
		f.again = f.again || s.recent(now) || known && !s.same(was)
	}
}

// changed looks at the files. It reports whether they have changed since they were read, and not
// since the last look: a file that is still being written is left alone.
func (f *fileWatch) changed() bool {
	now := f.look()
	stable := maps.EqualFunc(now, f.seen, fileState.same)
	f.seen = now
	return stable && (f.again || !maps.EqualFunc(now, f.atRead, fileState.same))
}

// look returns the states of the files, and of those in the folders, which may be new.
func (f *fileWatch) look() map[string]fileState {
	states := make(map[string]fileState, len(f.paths))
	for _, path := range f.paths {
		s := stateOf(path)
		states[path] = s
		if s.missing || !s.info.IsDir() {
			continue
		}
		names, _ := configs.AppFiles(path) // a folder that cannot be read has a state, too
		for _, name := range names {
			file := filepath.Join(path, name)
			states[file] = stateOf(file)
		}
	}
	return states
}
