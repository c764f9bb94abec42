package wechat

import (
	"net"
	"net/http/httptrace"
	"sync/atomic"
)

// countingConn counts the bytes that the kernel has taken over.
type countingConn struct {
	net.Conn
	written atomic.Int64
}

func (c *countingConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.written.Add(int64(n))
	return n, err
}

// requestTrace learns from httptrace how far one request came.
type requestTrace struct {
	conn          atomic.Pointer[countingConn]
	writtenBefore atomic.Int64 // bytes on conn before this request
	gotConn       atomic.Bool  // there was a connection
	reused        atomic.Bool  // it had served other requests
	headerStarted atomic.Bool  // the first header was handed to the connection's buffer
	wroteRequest  atomic.Bool  // the whole request was written without an error
	// earlier: bytes went out on a connection before this one. net/http may repeat a
	// GET on another connection, of itself; it never does that to a POST.
	earlierWrite atomic.Bool

	ready    func() error // waits until the request may be written; nil: it may be
	readyErr error        // of admit; nothing is written from then on
}

func (w *requestTrace) clientTrace() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		// net/http calls it on the goroutine of the round trip, before it hands the
		// request to the connection's writer.
		GotConn: func(info httptrace.GotConnInfo) {
			if w.written() {
				w.earlierWrite.Store(true)
			}
			if w.gotConn.Store(false); !w.waitReady(info.Conn) {
				return
			}
			if conn, ok := info.Conn.(*answerConn); ok {
				conn.expectAnswer()
			}
			if conn := findCountingConn(info.Conn); conn != nil {
				w.writtenBefore.Store(conn.written.Load())
				w.conn.Store(conn)
			}
			w.reused.Store(info.Reused)
			w.gotConn.Store(true)
		},
		WroteHeaderField: func(string, []string) { w.headerStarted.Store(true) },
		WroteHeaders:     func() { w.headerStarted.Store(true) },
		WroteRequest:     func(info httptrace.WroteRequestInfo) { w.wroteRequest.Store(info.Err == nil) },
	}
}

// waitReady waits until the request may be written on a connection. When it may not be,
// admits closes the connection: net/http goes on to write all the same, and no context
// keeps it from that.
func (w *requestTrace) waitReady(conn net.Conn) bool {
	if w.readyErr == nil && w.ready != nil {
		w.readyErr = w.ready()
	}
	if w.readyErr == nil {
		return true
	}
	if counted := findCountingConn(conn); counted != nil {
		conn = counted // beneath TLS, whose own Close writes
	}
	_ = conn.Close()
	return false
}

// findCountingConn finds the counted connection under TLS and proxies' TLS, nil when there
// is none (a transport of the caller's own).
func findCountingConn(conn net.Conn) *countingConn {
	for {
		if counted, ok := conn.(*countingConn); ok {
			return counted
		}
		outer, ok := conn.(interface{ NetConn() net.Conn })
		if !ok {
			return nil
		}
		conn = outer.NetConn()
	}
}

// written tells whether any of the request may have reached the peer. It is called
// when the exchange has failed: net/http has then ended the connection's writer.
// Sure of "no" are a request without a connection, one whose first header was never
// handed over, and one of which the kernel took no byte.
func (w *requestTrace) written() bool {
	if w.earlierWrite.Load() {
		return true
	}
	if !w.gotConn.Load() || !w.headerStarted.Load() {
		return false
	}
	conn := w.conn.Load()
	return conn == nil || conn.written.Load() > w.writtenBefore.Load()
}

// op names how far the request came, for people.
func (w *requestTrace) op() string {
	switch {
	case w.wroteRequest.Load():
		return "receive"
	case w.gotConn.Load():
		return "send"
	}
	return "connect"
}
