package redistest

import (
	"os"
	"path/filepath"
)

// Written is how long the append-only file is now, in bytes. Start the server with
// "--appendonly yes" and "--auto-aof-rewrite-percentage 0".
func (s *Server) Written() int64 {
	s.t.Helper()
	info, err := os.Stat(s.appendOnlyFile())
	if err != nil {
		s.t.Fatal(err)
	}
	return info.Size()
}

// PowerCut ends the server as a power failure does: what was written to the append-only
// file beyond the given length never reached the disk. SIGKILL alone shows no such loss,
// since the kernel still writes what it was given.
func (s *Server) PowerCut(written int64) {
	s.t.Helper()
	file := s.appendOnlyFile()
	s.Kill()
	if err := os.Truncate(file, written); err != nil {
		s.t.Fatal(err)
	}
}

func (s *Server) appendOnlyFile() string {
	s.t.Helper()
	for _, pattern := range []string{"appendonlydir/*.incr.aof", "appendonly.aof"} { // Redis 7, Redis 6
		if files, _ := filepath.Glob(filepath.Join(s.dir, pattern)); len(files) == 1 {
			return files[0]
		}
	}
	s.t.Fatal("no append-only file, or several")
	return ""
}
