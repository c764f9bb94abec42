package redistest

import (
	"context"
	"errors"
	"os"
	"strconv"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/redisserver"
)

// Server is a redis-server process on a free loopback port, with an empty data folder. It is
// killed when the test ends.
type Server struct {
	t      testing.TB
	server *redisserver.Server
}

// Start starts a redis-server; args are additional options, as on its command line
// ("--appendonly", "yes"). It skips the test if redis-server is not installed.
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	return start(t, redisserver.Config{Args: args})
}

func start(t testing.TB, c redisserver.Config) *Server {
	t.Helper()
	server, err := redisserver.Start(t.Context(), c)
	switch {
	case errors.Is(err, redisserver.ErrNotInstalled) && os.Getenv("CI") == "true":
		t.Fatal("redis-server is not installed, but required in CI")
	case errors.Is(err, redisserver.ErrNotInstalled):
		t.Skip("skipped: redis-server is not installed")
	case err != nil:
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	return &Server{t: t, server: server}
}

// Addr returns the server's address as host:port. A restart does not change it.
func (s *Server) Addr() string { return s.server.Addr() }

// Client returns a new client, which is closed when the test ends.
func (s *Server) Client(t testing.TB) redis.UniversalClient {
	t.Helper()
	rdb := redis.NewClient(&redis.Options{Addr: s.Addr()})
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

// Kill kills the server with SIGKILL and waits for it to exit. It may be called again.
func (s *Server) Kill() { s.server.Process().Kill() }

// Freeze suspends the server (SIGSTOP): it keeps its connections but does not answer. The
// returned function resumes it. It skips the test on systems without that signal.
func (s *Server) Freeze() (thaw func()) {
	s.t.Helper()
	process := s.server.Process()
	switch err := process.Suspend(); {
	case errors.Is(err, errors.ErrUnsupported):
		s.t.Skip("skipped: this system cannot suspend a process")
	case err != nil:
		s.t.Fatal(err)
	}
	return func() { _ = process.Resume() }
}

// Restart starts the server again on the same port and data folder.
func (s *Server) Restart() {
	s.t.Helper()
	if err := s.server.Restart(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
}

// freePort returns a port for a second listener of a server.
func freePort(t testing.TB) string {
	t.Helper()
	port, err := redisserver.FreePort(context.WithoutCancel(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	return strconv.Itoa(port)
}
