package taskfile

import (
	"bufio"
	"bytes"
	"errors"
	"io"
)

// bufferSize is the size of a read in bytes.
const bufferSize = 64 << 10

// lines splits a stream into lines. It keeps at most limit bytes of a line in memory.
type lines struct {
	r     *bufio.Reader
	limit int
	buf   []byte // the line, if it does not fit into the buffer of r
}

func newLines(r io.Reader, limit int) *lines {
	return &lines{r: bufio.NewReaderSize(r, bufferSize), limit: limit}
}

// next returns the next line without its line ending; it is valid until the next call. size
// is its length in bytes. A line longer than the limit is returned as nil. The error is io.EOF
// at the end of the stream.
func (l *lines) next() (line []byte, size int, err error) {
	l.buf = l.buf[:0]
	for {
		piece, err := l.r.ReadSlice('\n')
		size += len(piece)
		more := errors.Is(err, bufio.ErrBufferFull)
		last := errors.Is(err, io.EOF) && size > 0 // a line without a newline
		if err != nil && !more && !last {
			return nil, size, err
		}
		if !more && len(l.buf) == 0 && size == len(piece) {
			return l.finish(piece, size)
		}
		if size <= l.limit+len("\r\n") {
			l.buf = append(l.buf, piece...)
		}
		if !more {
			return l.finish(l.buf, size)
		}
	}
}

// finish removes the line ending from a line of size bytes. It returns nil for a line that is
// incomplete or longer than the limit.
func (l *lines) finish(line []byte, size int) ([]byte, int, error) {
	whole := len(line) == size
	line = bytes.TrimSuffix(line, []byte("\n"))
	line = bytes.TrimSuffix(line, []byte("\r"))
	if !whole || len(line) > l.limit {
		return nil, size, nil
	}
	return line, len(line), nil
}
