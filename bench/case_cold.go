package main

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/wxcourier/wxcourier/bench/clock"
	"github.com/wxcourier/wxcourier/bench/report"
	"github.com/wxcourier/wxcourier/internal/summary"
	"github.com/wxcourier/wxcourier/tasks"
)

// coldProxy forwards TLS connections to an address in plain text. It delays the opening of each
// connection, like a handshake over a long distance, but not the data.
type coldProxy struct {
	target   string
	opening  time.Duration
	listener net.Listener
	running  sync.WaitGroup
	ctx      context.Context //nolint:containedctx // its end closes the proxy and its connections

	mu   sync.Mutex
	open map[net.Conn]bool // guarded by mu
}

// startColdProxy starts a proxy that runs until ctx ends; then wait for p.running.
func startColdProxy(ctx context.Context, target string, opening time.Duration, cert tls.Certificate) (*coldProxy, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &coldProxy{target: target, opening: opening, listener: listener, ctx: ctx, open: make(map[net.Conn]bool)}
	config := &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	p.running.Go(func() {
		defer context.AfterFunc(ctx, func() { _ = listener.Close() })()
		for {
			conn, err := listener.Accept()
			if err != nil {
				return // closed
			}
			p.running.Go(func() { p.serve(tls.Server(conn, config)) })
		}
	})
	return p, nil
}

// serve opens a client's connection after the delay and forwards it to the target until either side,
// or the proxy, closes.
func (p *coldProxy) serve(client *tls.Conn) {
	defer func() { _ = client.Close() }()
	server, err := (&net.Dialer{}).DialContext(p.ctx, "tcp", p.target)
	if err != nil {
		return
	}
	defer func() { _ = server.Close() }()
	if clock.Pause(p.ctx, p.opening) != nil || client.HandshakeContext(p.ctx) != nil {
		return
	}
	p.track(server, true)
	defer p.track(server, false)
	defer context.AfterFunc(p.ctx, func() { _, _ = client.Close(), server.Close() })()
	var directions sync.WaitGroup
	directions.Go(func() { pipe(server, client) })
	directions.Go(func() { pipe(client, server) })
	directions.Wait()
}

func (p *coldProxy) track(conn net.Conn, open bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if delete(p.open, conn); open {
		p.open[conn] = true
	}
}

// closeAll closes all open connections.
func (p *coldProxy) closeAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for conn := range p.open {
		_ = conn.Close()
	}
}

// pipe copies data until one side closes, and then closes both.
func pipe(to, from net.Conn) {
	defer func() { _, _ = to.Close(), from.Close() }()
	_, _ = io.Copy(to, from) // an error ends the connection like EOF
}

func (b *bench) cold(ctx context.Context, t *report.Table) error {
	n := sizeFor(b, 1500, 400)
	t.Title = "Cold connections"
	t.About = fmt.Sprintf("100 a second, the default margin of 0.05, answers after 20 ms, through a proxy that delays the opening of TLS connections, but not their data: a backlog of %s, and then the same again after all connections were closed while idle. Wanted: no call over the limit; this margin lets at most 95 %% through.", summary.Number(n))
	t.Head = []string{"case", "share of the limit", "most in a second", "calls over", "start to first call", "longest stall"}
	for _, c := range []struct {
		opening time.Duration
		workers int
	}{{0, 1}, {40 * time.Millisecond, 1}, {100 * time.Millisecond, 1}, {100 * time.Millisecond, 4}} {
		if err := b.coldOnce(ctx, t, c.opening, c.workers, n); err != nil {
			return fmt.Errorf("%v, %s: %w", c.opening, workersText(c.workers), err)
		}
	}
	return nil
}

// coldOnce measures a backlog, and a second one after all connections were closed.
func (b *bench) coldOnce(ctx context.Context, t *report.Table, opening time.Duration, workers, n int) error {
	s := labConfig{apps: 1, latency: standInLatency}
	l, err := b.newLab(ctx, s)
	if err != nil {
		return err
	}
	defer l.close()
	p, err := l.behindColdProxy(s, opening)
	if err != nil {
		return err
	}
	defer p.running.Wait()
	defer l.cancel()
	o := order{app: appID(0), typ: tasks.TypeScheme}
	if err := l.backlog(ctx, o, n); err != nil {
		return err
	}
	for i, label := range []string{"", ", closed while idle"} {
		stalls := clock.WatchStalls(ctx)
		start := clock.Monotonic()
		if i == 0 {
			err = l.startWorkersWithCert(workers)
		} else {
			p.closeAll()
			err = l.backlog(ctx, o, n)
		}
		if err == nil {
			err = l.waitForCalls((i+1)*n, timeLimit(n, perSecond))
		}
		stall := stalls.Stop()
		if err != nil {
			return err
		}
		all, err := l.arrivals()
		if err != nil {
			return err
		}
		var f paceResult
		f.fill(paceCase{backlog: n, limit: perSecond}, all[i*n:], start)
		label = fmt.Sprintf("%v, %s%s", opening, workersText(workers), label)
		b.logf("  %s: share %.4f, peak %d, over %d, longest stall %.1f ms", label, f.share, f.peak, f.over, stall)
		t.Add(label, report.Percent(f.share), report.Count(f.peak), report.Count(f.over).AtMost(0), report.Number(f.firstCall, 2, " s"), report.Milliseconds(stall))
	}
	return nil
}

// certFile returns the path of the proxy's certificate.
func (l *lab) certFile() string { return filepath.Join(l.dir, "proxy.pem") }

// behindColdProxy starts a proxy in front of the stand-in, and writes its certificate and a worker
// configuration that uses it.
func (l *lab) behindColdProxy(s labConfig, opening time.Duration) (*coldProxy, error) {
	tlsServer := httptest.NewTLSServer(nil) // has a certificate for 127.0.0.1
	defer tlsServer.Close()
	encoded := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: tlsServer.Certificate().Raw})
	if err := os.WriteFile(l.certFile(), encoded, 0o600); err != nil {
		return nil, err
	}
	p, err := startColdProxy(l.ctx, strings.TrimPrefix(l.wechat, "http://"), opening, tlsServer.TLS.Certificates[0])
	if err != nil {
		return nil, err
	}
	return p, os.WriteFile(l.config, []byte(s.yaml(l.workerRedis, "https://"+p.listener.Addr().String())), 0o600)
}

// startWorkersWithCert starts n workers that trust the proxy's certificate.
func (l *lab) startWorkersWithCert(n int) error {
	for range n {
		if err := l.startWorker("env", "SSL_CERT_FILE="+l.certFile(), l.bench.binary, "worker", "-c", l.config); err != nil {
			return err
		}
	}
	return nil
}
