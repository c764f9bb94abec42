// Package console keeps a status line at the bottom of a terminal while messages and logs
// scroll above it.
//
//	c := console.New(os.Stderr)
//	c.Status("1,200 of 100,000")
//	fmt.Fprintln(c, "a message") // above the status line
//	c.Status("")                 // at the end
//
// If the output is not a terminal, there is no status line, and messages are written
// unchanged.
package console

import (
	"io"
	"os"
	"sync"
	"unicode/utf8"

	"golang.org/x/term"
)

// Console writes messages and one status line. It is safe for concurrent use.
type Console struct {
	out   io.Writer
	width func() int // in columns; 0 if out is not a terminal

	mu      sync.Mutex
	status  string // guarded by mu; the status line
	midLine bool   // guarded by mu; the last message did not end with a newline
}

const (
	clearLine    = "\r\x1b[K"
	defaultWidth = 80
)

// New returns a Console that writes to w. It has a status line if w is a terminal.
func New(w io.Writer) *Console {
	c := &Console{out: w, width: func() int { return 0 }}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		c.width = func() int {
			width, _, err := term.GetSize(int(f.Fd()))
			if err != nil || width <= 0 {
				return defaultWidth
			}
			return width
		}
	}
	return c
}

// Terminal reports whether the output is a terminal, and so has a status line.
func (c *Console) Terminal() bool { return c.width() > 0 }

// Write writes a message above the status line.
func (c *Console) Write(p []byte) (int, error) { return c.write(c.out, p) }

// WriterFor returns a writer for w, such as standard output, which may be the same terminal. It
// writes above the status line.
func (c *Console) WriterFor(w io.Writer) io.Writer {
	if !c.Terminal() {
		return w
	}
	if f, ok := w.(*os.File); ok && !term.IsTerminal(int(f.Fd())) {
		return w
	}
	return sharedWriter{c, w}
}

// sharedWriter writes to out above the status line of console.
type sharedWriter struct {
	console *Console
	out     io.Writer
}

func (b sharedWriter) Write(p []byte) (int, error) { return b.console.write(b.out, p) }

func (c *Console) write(out io.Writer, p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.status != "" && !c.midLine {
		_, _ = io.WriteString(c.out, clearLine)
	}
	n, err := out.Write(p)
	if len(p) > 0 {
		c.midLine = p[len(p)-1] != '\n'
	}
	if c.status != "" && !c.midLine {
		_, _ = io.WriteString(c.out, c.status)
	}
	return n, err
}

// Status replaces the status line; "" removes it.
func (c *Console) Status(text string) {
	width := c.width()
	if width == 0 {
		return
	}
	text = truncate(text, width-1)
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.midLine && text != c.status {
		_, _ = io.WriteString(c.out, clearLine+text)
	}
	c.status = text
}

// truncate limits text to width characters: a line that wraps cannot be cleared.
func truncate(text string, width int) string {
	for utf8.RuneCountInString(text) > max(width, 0) {
		_, size := utf8.DecodeLastRuneInString(text)
		text = text[:len(text)-size]
	}
	return text
}
