package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
)

// input is the file or standard input with the tasks.
type input struct {
	io.Reader
	name  string // for messages: the file's name, or "stdin"
	close func()
}

// open opens FILE or, for "-", standard input.
func (p *program) open(file string) (*input, error) {
	if file == "-" {
		return &input{Reader: interruptible(p.ctx, p.stdin), name: "stdin", close: func() {}}, nil
	}
	f, err := os.Open(file) //nolint:gosec // the user names the file
	if err != nil {
		return nil, fmt.Errorf("read the tasks: %w", err)
	}
	if info, err := f.Stat(); err == nil && info.IsDir() {
		_ = f.Close()
		return nil, fmt.Errorf("read the tasks: %s is a folder; name a file, or - for standard input", file)
	}
	return &input{Reader: f, name: file, close: func() { _ = f.Close() }}, nil
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
