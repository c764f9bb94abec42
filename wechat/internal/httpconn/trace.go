package httpconn

import (
	"net"
	"net/http/httptrace"
	"sync/atomic"
)

// countingConn counts the bytes that the kernel accepted for writing.
type countingConn struct {
	net.Conn
	written atomic.Int64
}

func (c *countingConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.written.Add(int64(n))
	return n, err
}

// RequestTrace records, by httptrace, how much of one request was sent. Set BeforeWrite, attach
// ClientTrace to the request's context, and read the other fields and methods when the round trip
// has returned. It serves one round trip.
type RequestTrace struct {
	conn          atomic.Pointer[countingConn]
	writtenBefore atomic.Int64 // bytes on conn before this request
	gotConn       atomic.Bool  // the request got a connection
	reused        atomic.Bool  // the connection had served other requests
	headerStarted atomic.Bool  // the first header field was written to the connection's buffer
	wroteRequest  atomic.Bool  // the whole request was written without an error
	// earlierWrite: bytes were written on a previous connection. net/http may retry a GET
	// on another connection by itself; it never does so with a POST.
	earlierWrite atomic.Bool

	// BeforeWrite, when set, is called on each connection that the request gets, before anything is
	// written on it. After an error the connection is closed and nothing is written.
	BeforeWrite func() error
	// BeforeWriteErr is the error of BeforeWrite.
	BeforeWriteErr error
}

// ClientTrace returns the hooks for [httptrace.WithClientTrace].
func (w *RequestTrace) ClientTrace() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		// net/http calls GotConn on the goroutine of the round trip, before it passes
		// the request to the connection's writer.
		GotConn: func(info httptrace.GotConnInfo) {
			if w.Written() {
				w.earlierWrite.Store(true)
			}
			if w.gotConn.Store(false); !w.callBeforeWrite(info.Conn) {
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

// callBeforeWrite calls BeforeWrite and reports whether the request may be written on conn.
// If not, it closes conn: net/http would write the request even after its context ended.
func (w *RequestTrace) callBeforeWrite(conn net.Conn) bool {
	if w.BeforeWriteErr == nil && w.BeforeWrite != nil {
		w.BeforeWriteErr = w.BeforeWrite()
	}
	if w.BeforeWriteErr == nil {
		return true
	}
	if counted := findCountingConn(conn); counted != nil {
		conn = counted // below TLS, whose Close writes an alert
	}
	_ = conn.Close()
	return false
}

// findCountingConn unwraps conn down to its countingConn; nil if there is none (with a
// custom transport).
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

// Written reports whether part of the request may have reached the peer. It is called after
// the exchange failed, when net/http has stopped the connection's writer. It is false for a
// request that got no connection, whose first header field was never written, or of which
// the kernel accepted no byte.
func (w *RequestTrace) Written() bool {
	if w.earlierWrite.Load() {
		return true
	}
	if !w.gotConn.Load() || !w.headerStarted.Load() {
		return false
	}
	conn := w.conn.Load()
	return conn == nil || conn.written.Load() > w.writtenBefore.Load()
}

// Reused reports whether the connection had served other requests.
func (w *RequestTrace) Reused() bool { return w.reused.Load() }

// Op returns the step that failed, for error texts: "connect", "send" or "receive".
func (w *RequestTrace) Op() string {
	switch {
	case w.wroteRequest.Load():
		return "receive"
	case w.gotConn.Load():
		return "send"
	}
	return "connect"
}
