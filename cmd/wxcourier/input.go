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

// input is the stream of tasks that a command line names.
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

// countLines tells how many lines a regular file has, and 0 for any other stream: what
// is read from that is gone.
func (in *input) countLines() int {
	f, ok := in.Reader.(*os.File)
	if !ok {
		return 0
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return 0
	}
	n, open := 0, false // open: the last line has no end
	buffer := make([]byte, 256<<10)
	for {
		size, err := f.Read(buffer)
		if piece := buffer[:size]; size > 0 {
			n += bytes.Count(piece, []byte("\n"))
			open = !bytes.HasSuffix(piece, []byte("\n"))
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

// interruptible reads from r until ctx ends, also while r has nothing to give: a read
// from a pipe cannot be broken off. The goroutine that is left in it ends with the pipe.
func interruptible(ctx context.Context, r io.Reader) io.Reader {
	pieces, out := make(chan []byte), &chunkReader{ctx: ctx}
	out.chunks = pieces
	go func() {
		defer close(pieces)
		for {
			buffer := make([]byte, 64<<10)
			n, err := r.Read(buffer)
			select {
			case pieces <- buffer[:n]:
			case <-ctx.Done():
				return
			}
			if err != nil {
				out.err = err // seen after the channel is closed
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
		case piece, ok := <-r.chunks:
			if !ok {
				return 0, cmp.Or(r.err, r.ctx.Err())
			}
			r.unread = piece
		case <-r.ctx.Done():
			return 0, r.ctx.Err()
		}
	}
	n := copy(p, r.unread)
	r.unread = r.unread[n:]
	return n, nil
}
