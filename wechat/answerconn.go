package wechat

import (
	"bytes"
	"io"
	"net"
	"sync"
)

// answerConn is a client's connection that hands net/http the bytes of the expected answer
// and no byte more.
//
// net/http writes what arrives on an idle connection to the standard logger, as text. An
// answer that is longer than its Content-Length leaves such bytes behind, and they may hold
// a token, an openid or a message. answerConn drops them and reports the end of the
// connection in their place, which net/http takes as an ordinary close.
//
// It reads HTTP in plain text: it belongs above TLS. A connection that is written to without
// expect (TLS of net/http's own, a proxy's CONNECT) is passed through unread.
type answerConn struct {
	net.Conn
	mu       sync.Mutex
	framing  framingParser // guarded by mu
	buf      []byte        // of Read alone: read from Conn, and not handed out
	readable int           // of Read alone: how much of in may be handed out
	err      error         // of Read alone: Conn's, after in
}

// answerBuffer is what a connection holds of an answer: most answers are shorter.
const answerBuffer = 2 << 10

// maxHeaderBytes bounds the header of an answer. WeChat's have some hundred bytes.
const maxHeaderBytes = 256 << 10

// expectAnswer says that a request is about to be written, so that an answer will follow.
func (c *answerConn) expectAnswer() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.framing.expectAnswer()
}

// NetConn returns the connection underneath, as that of a *tls.Conn does.
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
			return 0, io.EOF // it is dropped with the connection
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

// directRead tells whether bytes may be read into p itself, and cuts p to what is expected.
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

// countBody counts bytes of a body that were read past the framer.
func (c *answerConn) countBody(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.framing.phase == phaseBody {
		if c.framing.remaining -= int64(n); c.framing.remaining == 0 {
			c.framing.phase = phaseIdle
		}
	}
}

// fill reads once from the connection.
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

// parse lets the framer look at what has come, and returns the phase after it.
func (c *answerConn) parse() phase {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		from := c.readable
		at, ok := c.framing.step(c.buf[from:])
		if c.framing.addClose {
			// The status line is there; the header goes on behind it.
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
		c.readable = len(c.buf) // a cut answer, as it came
	}
	return c.framing.phase
}
