package main

import (
	"context"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

// jitterProxy passes TCP connections on to an address, and holds each piece of data back
// for a fixed time and a random one up to jitter, in both directions. Within one direction of a
// connection the order stays. A connection that is made waits for nothing.
type jitterProxy struct {
	target   string
	delay    time.Duration
	jitter   time.Duration
	listener net.Listener
	running  sync.WaitGroup
	ctx      context.Context //nolint:containedctx // the proxy's life: its connections end with it
}

// startProxy runs a proxy until ctx ends; then wait for running.
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

// serve connects a client with the target until one of them, or the proxy, ends.
func (p *jitterProxy) serve(client net.Conn) {
	defer func() { _ = client.Close() }()
	server, err := (&net.Dialer{}).DialContext(p.ctx, "tcp", p.target)
	if err != nil {
		return
	}
	defer func() { _ = server.Close() }()
	stop := context.AfterFunc(p.ctx, func() { _, _ = client.Close(), server.Close() })
	defer stop()
	var ways sync.WaitGroup
	ways.Go(func() { p.forward(server, client) })
	ways.Go(func() { p.forward(client, server) })
	ways.Wait()
}

// chunk is data on its way.
type chunk struct {
	data []byte
	due  time.Time
}

// forward carries data from one end to the other, late. When one side ends, so does the other.
func (p *jitterProxy) forward(to, from net.Conn) {
	way := make(chan chunk, 256)
	var writer sync.WaitGroup
	writer.Go(func() {
		defer func() { _ = to.Close() }()
		for x := range way {
			time.Sleep(time.Until(x.due))
			if _, err := to.Write(x.data); err != nil {
				_ = from.Close() // ends the reading below
			}
		}
	})
	defer writer.Wait()
	defer close(way)
	for {
		buffer := make([]byte, 16<<10)
		n, err := from.Read(buffer)
		if n > 0 {
			late := p.delay + rand.N(p.jitter+1) //nolint:gosec // a delay is no secret
			way <- chunk{buffer[:n], time.Now().Add(late)}
		}
		if err != nil {
			return
		}
	}
}
