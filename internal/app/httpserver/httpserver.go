// Package httpserver serves HTTP on one address and stops in time: requests under way at the
// shutdown are answered, within a bound.
//
//	server, err := httpserver.Start(ctx, httpserver.Config{Address: ":9090", Handler: pages, Log: log})
//	if err != nil {
//		return err
//	}
//	defer server.Shutdown()
package httpserver

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// Defaults of a Config.
const (
	DefaultReadHeaderTimeout = 5 * time.Second
	DefaultIdleTimeout       = time.Minute
	// Together with worker.shutdown_timeout (25 s) and the return of leased permits (3 s) it
	// fits into the 30 s that Kubernetes gives a process to end.
	DefaultShutdownTimeout = 2 * time.Second
)

// maxHeaderBytes is the maximum size of a request's headers.
const maxHeaderBytes = 64 << 10

// Config configures a Server. Address and Handler are required.
type Config struct {
	// Address is host:port. An empty host is all addresses; port 0 is a free port, which
	// Server.Addr returns.
	Address string
	Handler http.Handler
	// ReadHeaderTimeout and IdleTimeout are those of http.Server; 0 is the default, negative
	// is none.
	ReadHeaderTimeout time.Duration
	IdleTimeout       time.Duration
	// ShutdownTimeout is how long Shutdown waits for requests under way; 0 is the default.
	ShutdownTimeout time.Duration
	// TLS makes it a server of HTTPS; nil is HTTP. See Certificate.
	TLS *tls.Config
	// Log gets an error when serving ends before the shutdown; nil is slog.Default().
	Log *slog.Logger
}

// Server serves one listener in the background. Start returns it, Shutdown ends it.
type Server struct {
	server   *http.Server
	addr     string
	timeout  time.Duration
	scheme   string
	cancel   context.CancelFunc // ends the contexts of the requests
	finished chan struct{}      // closed when the listener is no longer served
}

// Start listens and begins to serve. The requests' contexts have the values of ctx, but do not end
// with it: only Shutdown ends the server.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", cfg.Address)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", cfg.Address, err)
	}
	requests, cancel := context.WithCancel(context.WithoutCancel(ctx))
	log := cfg.Log
	if log == nil {
		log = slog.Default()
	}
	s := &Server{
		server: &http.Server{
			Handler:           cfg.Handler,
			TLSConfig:         cfg.TLS,
			MaxHeaderBytes:    maxHeaderBytes,
			ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug), // of clients: broken handshakes and the like
			ReadHeaderTimeout: cmp.Or(cfg.ReadHeaderTimeout, DefaultReadHeaderTimeout),
			IdleTimeout:       cmp.Or(cfg.IdleTimeout, DefaultIdleTimeout),
			BaseContext:       func(net.Listener) context.Context { return requests },
		},
		addr:    listener.Addr().String(),
		scheme:  "http://",
		timeout: cmp.Or(cfg.ShutdownTimeout, DefaultShutdownTimeout),
		cancel:  cancel, finished: make(chan struct{}),
	}
	serve := s.server.Serve
	if cfg.TLS != nil {
		s.scheme = "https://"
		serve = func(l net.Listener) error { return s.server.ServeTLS(l, "", "") }
	}
	go func() {
		defer close(s.finished)
		if err := serve(listener); !errors.Is(err, http.ErrServerClosed) {
			log.Error("the listener failed", "addr", s.addr, "err", err)
		}
	}()
	return s, nil
}

// Addr returns the address of the listener as host:port, with the port that was chosen.
func (s *Server) Addr() string { return s.addr }

// URL returns the server's URL, without a final slash, for clients on this machine.
func (s *Server) URL() string {
	host, port, err := net.SplitHostPort(s.addr)
	if err != nil {
		return s.scheme + s.addr
	}
	if ip := net.ParseIP(host); ip == nil || ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return s.scheme + net.JoinHostPort(host, port)
}

// Shutdown refuses new connections and waits until the requests under way are answered. After the
// shutdown timeout it ends the contexts of the remaining requests and closes their connections; it
// does not wait for their handlers. It may be called again.
func (s *Server) Shutdown() {
	ctx, cancel := context.WithTimeout(context.Background(), s.timeout)
	defer cancel()
	_ = s.server.Shutdown(ctx) // after an error Close closes the rest
	s.cancel()
	_ = s.server.Close()
	<-s.finished
}
