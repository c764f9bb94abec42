// Package redisserver runs the installed redis-server as a child process on a free loopback port,
// for load tests, benchmarks and tests. Package redistest wraps it for tests; package embedded is a
// Redis without another program.
//
//	server, err := redisserver.Start(ctx, redisserver.Config{})
//	…
//	defer server.Close()
//	rdb := redis.NewClient(&redis.Options{Addr: server.Addr()})
package redisserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/subprocess"
)

// ErrNotInstalled is returned when there is no redis-server on the PATH.
var ErrNotInstalled = errors.New("redisserver: redis-server is not installed")

// Config configures a server. The zero value is a server without persistence.
type Config struct {
	Args []string // additional options, as on the command line: "--appendonly", "yes"
	Log  string   // the file to which its output is appended; "": its end is kept for error messages

	// Sentinel makes the server a sentinel with these lines of configuration.
	Sentinel []string
}

// Server is a redis-server that listens on a loopback port, with a data folder of its own. Do not
// call its methods concurrently.
type Server struct {
	config  Config
	path    string // of the program
	port    int
	dir     string
	process *subprocess.Process
}

const (
	startTries   = 3 // another program may take the free port before the server does
	startTimeout = 30 * time.Second
	startPoll    = 5 * time.Millisecond
)

// Start starts a server and waits until it answers. It returns ErrNotInstalled if there is none to
// start. The end of ctx ends the waiting, but not the server: Close stops it.
func Start(ctx context.Context, c Config) (*Server, error) {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, ErrNotInstalled
	}
	for range startTries {
		var s *Server
		if s, err = newServer(ctx, path, c); err != nil {
			return nil, err
		}
		if err = s.start(ctx); err == nil {
			return s, nil
		}
		s.Close()
		if ctx.Err() != nil {
			break
		}
	}
	return nil, err
}

func newServer(ctx context.Context, path string, c Config) (*Server, error) {
	port, err := FreePort(ctx)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "wxcourier-redis")
	if err != nil {
		return nil, fmt.Errorf("start redis-server: %w", err)
	}
	s := &Server{config: c, path: path, port: port, dir: dir}
	if c.Sentinel == nil {
		return s, nil
	}
	lines := append([]string{"port " + strconv.Itoa(port), "bind 127.0.0.1", "dir " + dir, "loglevel warning"}, c.Sentinel...)
	if err := os.WriteFile(s.sentinelFile(), []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		s.Close()
		return nil, fmt.Errorf("start redis-server: %w", err)
	}
	return s, nil
}

// sentinelFile returns the path of a sentinel's configuration, in which it also keeps its state.
func (s *Server) sentinelFile() string { return filepath.Join(s.dir, "sentinel.conf") }

// start starts the process and waits until it answers.
func (s *Server) start(ctx context.Context) error {
	p, err := subprocess.Start(context.WithoutCancel(ctx), subprocess.Command{Name: "redis-server", Path: s.path, Args: s.args(), Log: s.config.Log})
	if err != nil {
		return err
	}
	s.process = p
	return s.waitUntilReady(ctx)
}

// args returns the command line.
func (s *Server) args() []string {
	if s.config.Sentinel != nil {
		return []string{s.sentinelFile(), "--sentinel"}
	}
	return append([]string{
		"--port", strconv.Itoa(s.port), "--bind", "127.0.0.1", "--dir", s.dir,
		"--save", "", "--daemonize", "no", "--loglevel", "warning",
	}, s.config.Args...)
}

func (s *Server) waitUntilReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	rdb := redis.NewClient(&redis.Options{Addr: s.Addr(), MaxRetries: -1})
	defer func() { _ = rdb.Close() }()
	for !s.answers(ctx, rdb) {
		select {
		case <-s.process.Done():
			return s.process.ExitError()
		case <-ctx.Done():
			return fmt.Errorf("redis-server does not answer at %s: %w", s.Addr(), ctx.Err())
		case <-time.After(startPoll):
		}
	}
	return nil
}

// answers reports whether the server has loaded its data and answers. It compares the server's
// folder, since another server may have taken the port.
func (s *Server) answers(ctx context.Context, rdb *redis.Client) bool {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", s.Addr()) // go-redis would log each failure
	if err != nil {
		return false
	}
	_ = conn.Close()
	if rdb.Ping(ctx).Err() != nil {
		return false
	}
	if s.config.Sentinel != nil { // it has no CONFIG
		return true
	}
	settings, err := rdb.ConfigGet(ctx, "dir").Result()
	return err == nil && sameFile(settings["dir"], s.dir)
}

// sameFile reports whether two paths are the same folder, also through symbolic links.
func sameFile(a, b string) bool {
	first, errA := os.Stat(a)
	second, errB := os.Stat(b)
	return errA == nil && errB == nil && os.SameFile(first, second)
}

// Addr returns the server's address as host:port. A restart does not change it.
func (s *Server) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }

// Dir returns the data folder.
func (s *Server) Dir() string { return s.dir }

// Process returns the server's process, a new one after each restart.
func (s *Server) Process() *subprocess.Process { return s.process }

// Restart kills the server, if it still runs, and starts it again on the same port and data folder.
func (s *Server) Restart(ctx context.Context) error {
	s.process.Kill()
	return s.start(ctx)
}

// Close kills the server and deletes its data. It may be called again.
func (s *Server) Close() {
	if s.process != nil {
		s.process.Kill()
	}
	_ = os.RemoveAll(s.dir)
}

// FreePort returns a TCP port of the loopback interface that is free at the time of the call.
func FreePort(ctx context.Context) (int, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	defer func() { _ = l.Close() }()
	_, text, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(text)
}
