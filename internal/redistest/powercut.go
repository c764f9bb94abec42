package redistest

import (
	"os"
	"path/filepath"
)

// Written returns the current length of the append-only file in bytes. Start the server with
// "--appendonly yes" and "--auto-aof-rewrite-percentage 0".
func (s *Server) Written() int64 {
	s.t.Helper()
	info, err := os.Stat(s.appendOnlyFile())
	if err != nil {
		s.t.Fatal(err)
	}
	return info.Size()
}

// PowerCut kills the server and truncates the append-only file to the given length, as after
// a power failure in which the rest did not reach the disk. SIGKILL alone loses nothing that
// the server has written, since the kernel still writes it.
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
		if files, _ := filepath.Glob(filepath.Join(s.server.Dir(), pattern)); len(files) == 1 {
			return files[0]
		}
	}
	s.t.Fatal("no append-only file, or more than one")
	return ""
}
