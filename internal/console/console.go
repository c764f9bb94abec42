// Package console lets a status line live at the bottom of a terminal while messages
// and logs scroll above it.
//
//	c := console.New(os.Stderr)
//	c.Status("1,200 of 100,000")
//	fmt.Fprintln(c, "a message") // above the status
//	c.Status("")                 // at the end
//
// Where the output is no terminal there is no status line, and everything else goes
// through as it is.
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
	width func() int // 0 where there is no terminal

	mu      sync.Mutex
	status  string // guarded by mu; what stands at the bottom
	midLine bool   // guarded by mu; the last message did not end its line
}

const (
	clearLine    = "\r\x1b[K"
	defaultWidth = 80
)

// New makes a console of w. It is a terminal when w is a file that is one.
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

// Terminal tells whether there is a status line.
func (c *Console) Terminal() bool { return c.width() > 0 }

// Write writes a message above the status line.
func (c *Console) Write(p []byte) (int, error) { return c.write(c.out, p) }

// Beside is an output that shares the terminal with the status line, such as standard
// output: what is written to it goes above the status line, too.
func (c *Console) Beside(w io.Writer) io.Writer {
	if !c.Terminal() {
		return w
	}
	if f, ok := w.(*os.File); ok && !term.IsTerminal(int(f.Fd())) {
		return w
	}
	return sharedWriter{c, w}
}

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

// Status replaces the status line; "" takes it away.
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

// truncate keeps to the width: a line that wraps cannot be cleared.
func truncate(text string, width int) string {
	for utf8.RuneCountInString(text) > max(width, 0) {
		_, size := utf8.DecodeLastRuneInString(text)
		text = text[:len(text)-size]
	}
	return text
}
