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

	"github.com/wxcourier/wxcourier/tasks"
)

// coldProxy passes TLS connections on to an address in plain. Each new connection takes a
// while to open, as a handshake over a long way does; one that is open waits for nothing.
type coldProxy struct {
	target   string
	opening  time.Duration
	listener net.Listener
	running  sync.WaitGroup
	ctx      context.Context //nolint:containedctx // the proxy's life: its connections end with it

	mu   sync.Mutex
	open map[net.Conn]bool // guarded by mu
}

// startColdProxy runs a proxy until ctx ends; then wait for running.
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

// serve opens a connection, and connects it with the target until one of them, or the
// proxy, ends.
func (p *coldProxy) serve(client *tls.Conn) {
	defer func() { _ = client.Close() }()
	server, err := (&net.Dialer{}).DialContext(p.ctx, "tcp", p.target)
	if err != nil {
		return
	}
	defer func() { _ = server.Close() }()
	if pause(p.ctx, p.opening) != nil || client.HandshakeContext(p.ctx) != nil {
		return
	}
	p.track(server, true)
	defer p.track(server, false)
	defer context.AfterFunc(p.ctx, func() { _, _ = client.Close(), server.Close() })()
	var ways sync.WaitGroup
	ways.Go(func() { pipe(server, client) })
	ways.Go(func() { pipe(client, server) })
	ways.Wait()
}

func (p *coldProxy) track(conn net.Conn, open bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if delete(p.open, conn); open {
		p.open[conn] = true
	}
}

// closeAll closes the connections that are open.
func (p *coldProxy) closeAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for conn := range p.open {
		_ = conn.Close()
	}
}

// pipe carries data until one end closes, and closes the other.
func pipe(to, from net.Conn) {
	defer func() { _, _ = to.Close(), from.Close() }()
	_, _ = io.Copy(to, from) // its error is an end like any other
}

func (b *bench) cold(ctx context.Context, t *table) error {
	n := sizeFor(b, 1500, 400)
	t.title = "Cold connections"
	t.about = fmt.Sprintf("100 a second, the default margin of 0.05, answers after 20 ms, through a proxy on which a new TLS connection takes a while to open and an open one waits for nothing: a backlog of %s, and then the same again, after all connections were closed while they were idle. Wanted: no call over the limit; the most that this margin lets through is 95 %%.", thousands(n))
	t.head = []string{"case", "share of the limit", "most in a second", "calls over", "start to first call", "longest stall"}
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
func (b *bench) coldOnce(ctx context.Context, t *table, opening time.Duration, workers, n int) error {
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
		stalls := watchStalls(ctx)
		began := monotonic()
		if i == 0 {
			err = l.startWorkersWithCert(workers)
		} else {
			p.closeAll()
			err = l.backlog(ctx, o, n)
		}
		if err == nil {
			err = l.waitForCalls((i+1)*n, timeLimit(n, perSecond))
		}
		stall := stalls.stop()
		if err != nil {
			return err
		}
		all, err := l.arrivals()
		if err != nil {
			return err
		}
		var f paceResult
		f.fill(paceCase{backlog: n, limit: perSecond}, all[i*n:], began)
		label = fmt.Sprintf("%v, %s%s", opening, workersText(workers), label)
		b.logf("  %s: share %.4f, peak %d, over %d, longest stall %.1f ms", label, f.share, f.peak, f.over, stall)
		t.add(label, percent(f.share), whole(f.peak), whole(f.over).atMost(0), num(f.firstCall, 2, " s"), millis(stall))
	}
	return nil
}

// certFile is the certificate of a lab's proxy, for workers.
func (l *lab) certFile() string { return filepath.Join(l.dir, "proxy.pem") }

// behindColdProxy puts a proxy between workers that trust it and the stand-in.
func (l *lab) behindColdProxy(s labConfig, opening time.Duration) (*coldProxy, error) {
	known := httptest.NewTLSServer(nil) // has a certificate for 127.0.0.1
	defer known.Close()
	encoded := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: known.Certificate().Raw})
	if err := os.WriteFile(l.certFile(), encoded, 0o600); err != nil {
		return nil, err
	}
	p, err := startColdProxy(l.ctx, strings.TrimPrefix(l.wechat, "http://"), opening, known.TLS.Certificates[0])
	if err != nil {
		return nil, err
	}
	return p, os.WriteFile(l.config, []byte(s.yaml(l.workerRedis, "https://"+p.listener.Addr().String())), 0o600)
}

// startWorkersWithCert starts n workers that trust the lab's proxy.
func (l *lab) startWorkersWithCert(n int) error {
	for range n {
		if err := l.startWorker("env", "SSL_CERT_FILE="+l.certFile(), l.bench.binary, "worker", "-c", l.config); err != nil {
			return err
		}
	}
	return nil
}
