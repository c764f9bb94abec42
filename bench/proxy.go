package main

import (
	"context"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

// jitterProxy forwards TCP connections to an address. It delays each chunk of data by delay plus a
// random time up to jitter, in both directions, and keeps the order. It does not delay the opening
// of connections.
type jitterProxy struct {
	target   string
	delay    time.Duration
	jitter   time.Duration
	listener net.Listener
	running  sync.WaitGroup
	ctx      context.Context //nolint:containedctx // its end closes the proxy and its connections
}

// startProxy starts a proxy that runs until ctx ends; then wait for p.running.
func startProxy(ctx context.Context, target string, delay, jitter time.Duration) (*jitterProxy, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &jitterProxy{target: target, delay: delay, jitter: jitter, listener: listener, ctx: ctx}
	p.running.Go(p.accept)
	return p, nil
}

func (p *jitterProxy) addr() string { return p.listener.Addr().String() }

func (p *jitterProxy) accept() {
	stop := context.AfterFunc(p.ctx, func() { _ = p.listener.Close() })
	defer stop()
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return // closed
		}
		p.running.Go(func() { p.serve(client) })
	}
}

// serve forwards a client's connection to the target until either side, or the proxy, closes.
func (p *jitterProxy) serve(client net.Conn) {
	defer func() { _ = client.Close() }()
	server, err := (&net.Dialer{}).DialContext(p.ctx, "tcp", p.target)
	if err != nil {
		return
	}
	defer func() { _ = server.Close() }()
	stop := context.AfterFunc(p.ctx, func() { _, _ = client.Close(), server.Close() })
	defer stop()
	var directions sync.WaitGroup
	directions.Go(func() { p.forward(server, client) })
	directions.Go(func() { p.forward(client, server) })
	directions.Wait()
}

// chunk is data with the time to write it.
type chunk struct {
	data []byte
	due  time.Time
}

// forward copies data from one side to the other with the delay. When one side closes, it closes the
// other.
func (p *jitterProxy) forward(to, from net.Conn) {
	chunks := make(chan chunk, 256)
	var writer sync.WaitGroup
	writer.Go(func() {
		defer func() { _ = to.Close() }()
		for c := range chunks {
			time.Sleep(time.Until(c.due))
			if _, err := to.Write(c.data); err != nil {
				_ = from.Close() // ends the read loop below
			}
		}
	})
	defer writer.Wait()
	defer close(chunks)
	for {
		buffer := make([]byte, 16<<10)
		n, err := from.Read(buffer)
		if n > 0 {
			wait := p.delay + rand.N(p.jitter+1) //nolint:gosec // not used for secrets
			chunks <- chunk{buffer[:n], time.Now().Add(wait)}
		}
		if err != nil {
			return
		}
	}
}
