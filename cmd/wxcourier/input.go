package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"strings"
	"time"

	"github.com/wxcourier/wxcourier/internal/describe"
	"github.com/wxcourier/wxcourier/tasks"
)

// input is the file or standard input with the tasks.
type input struct {
	io.Reader
	name      string // for messages: the file's name, or "stdin"
	close     func()
	interrupt func() // ends a Read that blocks
}

// open opens FILE or, for "-", standard input.
func (p *program) open(file string) (*input, error) {
	if file == "-" {
		ctx, cancel := context.WithCancel(p.ctx)
		return &input{Reader: interruptible(ctx, p.stdin), name: "stdin", close: cancel, interrupt: cancel}, nil
	}
	f, err := os.Open(file) //nolint:gosec // the user names the file
	if err != nil {
		return nil, fmt.Errorf("read the tasks: %w", err)
	}
	if info, err := f.Stat(); err == nil && info.IsDir() {
		_ = f.Close()
		return nil, fmt.Errorf("read the tasks: %s is a folder; name a file, or - for standard input", file)
	}
	closeFile := func() { _ = f.Close() }
	return &input{Reader: f, name: file, close: closeFile, interrupt: closeFile}, nil
}

// countLines returns the number of lines of a regular file, and 0 for any other input, which can
// be read only once.
func (in *input) countLines() int {
	f, ok := in.Reader.(*os.File)
	if !ok {
		return 0
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return 0
	}
	n, open := 0, false // open: the last line has no newline
	buffer := make([]byte, 256<<10)
	for {
		size, err := f.Read(buffer)
		if chunk := buffer[:size]; size > 0 {
			n += bytes.Count(chunk, []byte("\n"))
			open = !bytes.HasSuffix(chunk, []byte("\n"))
		}
		if err != nil {
			if !errors.Is(err, io.EOF) {
				n = 0
			}
			break
		}
	}
	if open {
		n++
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return 0
	}
	return n
}

// interruptible returns a reader of r whose Read returns when ctx ends, also while r blocks: a
// read from a pipe cannot be canceled. The goroutine that blocks in r ends with the pipe.
func interruptible(ctx context.Context, r io.Reader) io.Reader {
	chunks, out := make(chan []byte), &chunkReader{ctx: ctx}
	out.chunks = chunks
	go func() {
		defer close(chunks)
		for {
			buffer := make([]byte, 64<<10)
			n, err := r.Read(buffer)
			select {
			case chunks <- buffer[:n]:
			case <-ctx.Done():
				return
			}
			if err != nil {
				out.err = err // read only after the channel is closed
				return
			}
		}
	}()
	return out
}

type chunkReader struct {
	ctx    context.Context //nolint:containedctx // io.Reader takes none
	chunks <-chan []byte
	unread []byte
	err    error
}

func (r *chunkReader) Read(p []byte) (int, error) {
	for len(r.unread) == 0 {
		select {
		case chunk, ok := <-r.chunks:
			if !ok {
				return 0, cmp.Or(r.err, r.ctx.Err())
			}
			r.unread = chunk
		case <-r.ctx.Done():
			return 0, r.ctx.Err()
		}
	}
	n := copy(p, r.unread)
	r.unread = r.unread[n:]
	return n, nil
}

// validApps checks the values of --app.
func validApps(apps []string) error {
	for _, app := range apps {
		if !tasks.ValidApp(app) {
			return usageErrorf(`--app: %q is not an app id: "wx" and 16 of the characters 0-9 and a-f`, app)
		}
	}
	return nil
}

// sinceTime parses --since: a time, or a duration before now; "" is the zero time.
func sinceTime(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, usageErrorf("--since: %q is neither a duration such as 90m nor a time such as 2026-12-01T08:00:00+08:00", text)
	}
	return at, nil
}

const idForm = "1 to 128 of the characters A-Z a-z 0-9 . _ ~ -"

// validIDs checks the values of --id.
func validIDs(ids []string) error {
	for _, id := range ids {
		if !tasks.ValidID(id) { // "-" passes as well
			return usageErrorf("--id: %q is not an id: %s", id, idForm)
		}
	}
	return nil
}

// idReader yields the ids given by --id and on standard input, each once.
type idReader struct {
	program *program
	bad     int // lines that are not ids; they were reported and skipped
	readErr error
}

// all yields the values of --id; in place of "-", the lines of standard input.
func (r *idReader) all(named []string) iter.Seq[string] {
	return func(yield func(string) bool) {
		seen := make(map[string]bool)
		once := func(id string) bool {
			if seen[id] {
				return true
			}
			seen[id] = true
			return yield(id)
		}
		for _, id := range named {
			if id == "-" && !r.lines(once) || id != "-" && !once(id) {
				return
			}
		}
	}
}

// lines reads standard input. It returns false when yield did or reading failed.
func (r *idReader) lines(yield func(string) bool) bool {
	lines := bufio.NewScanner(interruptible(r.program.ctx, r.program.stdin))
	for n := 1; lines.Scan(); n++ {
		id := strings.TrimSpace(lines.Text())
		switch {
		case id == "":
		case !tasks.ValidID(id):
			r.bad++
			r.program.notef("stdin:%d: not an id: %s", n, idForm)
		case !yield(id):
			return false
		}
	}
	r.readErr = lines.Err()
	return r.readErr == nil
}

// err returns the error of the reading, if any; lines that are not ids are one.
func (r *idReader) err() error {
	if r.readErr != nil {
		return fmt.Errorf("read the ids: %w", r.readErr)
	}
	if r.bad > 0 {
		return errors.New(describe.Count(r.bad, "line") + " skipped: not ids")
	}
	return nil
}
