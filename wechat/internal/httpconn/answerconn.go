package httpconn

import (
	"bytes"
	"io"
	"net"
	"sync"
)

// answerConn is a client connection that passes only the bytes of the expected answer to
// net/http.
//
// net/http logs bytes that arrive on an idle connection, as text, with the standard logger.
// An answer longer than its Content-Length leaves such bytes behind, and they may contain a
// token, an openid or a message. answerConn drops them and reports EOF instead, which
// net/http treats as an ordinary close.
//
// It parses plain-text HTTP, so it wraps the TLS connection. A connection that is written to
// without expectAnswer (net/http's own TLS, a proxy's CONNECT) is passed through unparsed.
type answerConn struct {
	net.Conn
	mu       sync.Mutex
	framing  framingParser // guarded by mu
	buf      []byte        // used by Read only: read from Conn, not yet returned
	readable int           // used by Read only: length of the prefix of buf that Read may return
	err      error         // used by Read only: Conn's error, returned after buf
}

// answerBuffer is the initial size of a connection's buffer in bytes; most answers are shorter.
const answerBuffer = 2 << 10

// maxHeaderBytes bounds the header of an answer. WeChat's headers have a few hundred bytes.
const maxHeaderBytes = 256 << 10

// expectAnswer announces a request: the next bytes read belong to its answer.
func (c *answerConn) expectAnswer() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.framing.expectAnswer()
}

// NetConn returns the wrapped connection, like [tls.Conn.NetConn].
func (c *answerConn) NetConn() net.Conn { return c.Conn }

func (c *answerConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	if c.framing.phase == phaseUnused {
		c.framing.phase = phasePassThrough
	}
	c.mu.Unlock()
	return c.Conn.Write(p)
}

func (c *answerConn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for {
		phase := c.parse()
		switch {
		case c.readable > 0:
			n := copy(p, c.buf[:c.readable])
			c.buf, c.readable = append(c.buf[:0], c.buf[n:]...), c.readable-n
			return n, nil
		case phase == phaseMalformed:
			return 0, io.ErrUnexpectedEOF
		case phase == phaseExcess:
			return 0, io.EOF // the excess is dropped with the connection
		case c.err != nil:
			return 0, c.err
		case len(c.buf) > 0 || !c.directRead(&p, phase):
			c.fill()
			continue
		}
		n, err := c.Conn.Read(p)
		c.countBody(n)
		return n, err
	}
}

// directRead reports whether Read may bypass buf and read into p; it limits p to the bytes expected.
func (c *answerConn) directRead(p *[]byte, at phase) bool {
	if at != phaseBody && at != phasePassThrough && at != phaseUntilClose {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if at == phaseBody {
		*p = (*p)[:min(int64(len(*p)), c.framing.remaining)]
	}
	return true
}

// countBody counts body bytes that Read passed on without the parser.
func (c *answerConn) countBody(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.framing.phase == phaseBody {
		if c.framing.remaining -= int64(n); c.framing.remaining == 0 {
			c.framing.phase = phaseIdle
		}
	}
}

// fill reads once from the connection into buf.
func (c *answerConn) fill() {
	if c.buf == nil {
		c.buf = make([]byte, 0, answerBuffer)
	}
	if len(c.buf) == cap(c.buf) {
		c.buf = append(make([]byte, 0, 2*cap(c.buf)), c.buf...)
	}
	n, err := c.Conn.Read(c.buf[len(c.buf):cap(c.buf)])
	c.buf, c.err = c.buf[:len(c.buf)+n], err
}

// parse runs the parser over the unparsed part of buf and returns the phase reached.
func (c *answerConn) parse() phase {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		from := c.readable
		at, ok := c.framing.step(c.buf[from:])
		if c.framing.addClose {
			// Insert the field right after the status line.
			line := from + bytes.IndexByte(c.buf[from:], '\n') + 1
			c.buf = append(c.buf[:line], append([]byte("Connection: close\r\n"), c.buf[line:]...)...)
			at += len("Connection: close\r\n")
			c.framing.addClose = false
		}
		c.readable += at
		if !ok {
			break
		}
	}
	if c.err != nil && c.framing.phase.acceptsBytes() {
		c.readable = len(c.buf) // a truncated answer is passed on as it is
	}
	return c.framing.phase
}
