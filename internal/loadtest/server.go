package loadtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"time"

	"github.com/redis/go-redis/v9"
)

// ErrNoServer is returned when redis-server is not installed.
var ErrNoServer = errors.New("loadtest: redis-server is not installed")

// Server is a redis-server started by this process, on a free loopback port, without persistence.
type Server struct {
	Addr string

	process *process
	dir     string
}

const (
	serverTries = 3 // another program may take the free port before the server does
	serverStart = 10 * time.Second
	serverPoll  = 20 * time.Millisecond
)

// StartServer starts the redis-server on the PATH, or returns ErrNoServer. Close stops it.
func StartServer(ctx context.Context) (*Server, error) {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, ErrNoServer
	}
	for range serverTries {
		var s *Server
		if s, err = startServer(ctx, path); err == nil || ctx.Err() != nil {
			return s, err
		}
	}
	return nil, err
}

func startServer(ctx context.Context, path string) (*Server, error) {
	port, err := freePort(ctx)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "wxcourier-redis")
	if err != nil {
		return nil, fmt.Errorf("start redis-server: %w", err)
	}
	s := &Server{Addr: net.JoinHostPort("127.0.0.1", port), dir: dir}
	s.process, err = start(ctx, command{
		name: "redis-server", path: path,
		args: []string{"--port", port, "--bind", "127.0.0.1", "--dir", dir, "--save", "", "--appendonly", "no", "--daemonize", "no", "--loglevel", "warning"},
	})
	if err != nil {
		_ = os.RemoveAll(dir)
		return nil, err
	}
	if err := s.waitUntilReady(ctx); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// waitUntilReady waits for the server's first answer. It compares the server's folder with s.dir,
// since another server may have taken the port.
func (s *Server) waitUntilReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, serverStart)
	defer cancel()
	rdb := redis.NewClient(&redis.Options{Addr: s.Addr, MaxRetries: -1})
	defer func() { _ = rdb.Close() }()
	for {
		if dir, err := rdb.ConfigGet(ctx, "dir").Result(); err == nil && sameFile(dir["dir"], s.dir) {
			return nil
		}
		select {
		case <-s.process.done:
			return s.process.exitError()
		case <-ctx.Done():
			return fmt.Errorf("redis-server does not answer at %s: %w", s.Addr, ctx.Err())
		case <-time.After(serverPoll):
		}
	}
}

// sameFile reports whether two paths are the same folder, also through symbolic links.
func sameFile(a, b string) bool {
	first, errA := os.Stat(a)
	second, errB := os.Stat(b)
	return errA == nil && errB == nil && os.SameFile(first, second)
}

// Close stops the server and deletes its data.
func (s *Server) Close() {
	s.process.stop()
	_ = os.RemoveAll(s.dir)
}

func freePort(ctx context.Context) (string, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	defer func() { _ = l.Close() }()
	_, port, err := net.SplitHostPort(l.Addr().String())
	return port, err
}
