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

// watch learns from httptrace how far one request came.
type watch struct {
	conn   atomic.Pointer[countingConn]
	before atomic.Int64 // bytes on conn before this request
	got    atomic.Bool  // there was a connection
	reused atomic.Bool  // it had served other requests
	began  atomic.Bool  // the first header was handed to the connection's buffer
	wrote  atomic.Bool  // the whole request was written without an error
	// earlier: bytes went out on a connection before this one. net/http may repeat a
	// GET on another connection, of itself; it never does that to a POST.
	earlier atomic.Bool

	admit   func() error // waits until the request may be written; nil: it may be
	refused error        // of admit; nothing is written from then on
}

func (w *watch) trace() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		// net/http calls it on the goroutine of the round trip, before it hands the
		// request to the connection's writer.
		GotConn: func(info httptrace.GotConnInfo) {
			if w.written() {
				w.earlier.Store(true)
			}
			if w.got.Store(false); !w.admits(info.Conn) {
				return
			}
			if conn, ok := info.Conn.(*answerConn); ok {
				conn.expect()
			}
			if conn := innermost(info.Conn); conn != nil {
				w.before.Store(conn.written.Load())
				w.conn.Store(conn)
			}
			w.reused.Store(info.Reused)
			w.got.Store(true)
		},
		WroteHeaderField: func(string, []string) { w.began.Store(true) },
		WroteHeaders:     func() { w.began.Store(true) },
		WroteRequest:     func(info httptrace.WroteRequestInfo) { w.wrote.Store(info.Err == nil) },
	}
}

// admits waits until the request may be written on a connection. When it may not be,
// admits closes the connection: net/http goes on to write all the same, and no context
// keeps it from that.
func (w *watch) admits(conn net.Conn) bool {
	if w.refused == nil && w.admit != nil {
		w.refused = w.admit()
	}
	if w.refused == nil {
		return true
	}
	if counted := innermost(conn); counted != nil {
		conn = counted // beneath TLS, whose own Close writes
	}
	_ = conn.Close()
	return false
}

// innermost finds the counted connection under TLS and proxies' TLS, nil when there
// is none (a transport of the caller's own).
func innermost(conn net.Conn) *countingConn {
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
func (w *watch) written() bool {
	if w.earlier.Load() {
		return true
	}
	if !w.got.Load() || !w.began.Load() {
		return false
	}
	conn := w.conn.Load()
	return conn == nil || conn.written.Load() > w.before.Load()
}

// op names how far the request came, for people.
func (w *watch) op() string {
	switch {
	case w.wrote.Load():
		return "receive"
	case w.got.Load():
		return "send"
	}
	return "connect"
}
