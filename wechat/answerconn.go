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
	mu     sync.Mutex
	framer framer // guarded by mu
	in     []byte // of Read alone: read from Conn, and not handed out
	ready  int    // of Read alone: how much of in may be handed out
	err    error  // of Read alone: Conn's, after in
}

// answerBuffer is what a connection holds of an answer: most answers are shorter.
const answerBuffer = 2 << 10

// maxHeadBytes bounds the header of an answer. WeChat's have some hundred bytes.
const maxHeadBytes = 256 << 10

// expect says that a request is about to be written, so that an answer will follow.
func (c *answerConn) expect() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.framer.expect()
}

// NetConn returns the connection underneath, as that of a *tls.Conn does.
func (c *answerConn) NetConn() net.Conn { return c.Conn }

func (c *answerConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	if c.framer.phase == phaseSilent {
		c.framer.phase = phaseOpaque
	}
	c.mu.Unlock()
	return c.Conn.Write(p)
}

func (c *answerConn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for {
		phase := c.advance()
		switch {
		case c.ready > 0:
			n := copy(p, c.in[:c.ready])
			c.in, c.ready = append(c.in[:0], c.in[n:]...), c.ready-n
			return n, nil
		case phase == phaseBroken:
			return 0, io.ErrUnexpectedEOF
		case phase == phaseSurplus:
			return 0, io.EOF // it is dropped with the connection
		case c.err != nil:
			return 0, c.err
		case len(c.in) > 0 || !c.direct(&p, phase):
			c.fill()
			continue
		}
		n, err := c.Conn.Read(p)
		c.took(n)
		return n, err
	}
}

// direct tells whether bytes may be read into p itself, and cuts p to what is expected.
func (c *answerConn) direct(p *[]byte, at phase) bool {
	if at != phaseBody && at != phaseOpaque && at != phaseToClose {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if at == phaseBody {
		*p = (*p)[:min(int64(len(*p)), c.framer.left)]
	}
	return true
}

// took counts bytes of a body that were read past the framer.
func (c *answerConn) took(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.framer.phase == phaseBody {
		if c.framer.left -= int64(n); c.framer.left == 0 {
			c.framer.phase = phaseIdle
		}
	}
}

// fill reads once from the connection.
func (c *answerConn) fill() {
	if c.in == nil {
		c.in = make([]byte, 0, answerBuffer)
	}
	if len(c.in) == cap(c.in) {
		c.in = append(make([]byte, 0, 2*cap(c.in)), c.in...)
	}
	n, err := c.Conn.Read(c.in[len(c.in):cap(c.in)])
	c.in, c.err = c.in[:len(c.in)+n], err
}

// advance lets the framer look at what has come, and returns the phase after it.
func (c *answerConn) advance() phase {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		from := c.ready
		at, ok := c.framer.step(c.in[from:])
		if c.framer.injects {
			// The status line is there; the header goes on behind it.
			line := from + bytes.IndexByte(c.in[from:], '\n') + 1
			c.in = append(c.in[:line], append([]byte("Connection: close\r\n"), c.in[line:]...)...)
			at += len("Connection: close\r\n")
			c.framer.injects = false
		}
		c.ready += at
		if !ok {
			break
		}
	}
	if c.err != nil && c.framer.phase.takesBytes() {
		c.ready = len(c.in) // a cut answer, as it came
	}
	return c.framer.phase
}
