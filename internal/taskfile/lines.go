package taskfile

import (
	"bufio"
	"bytes"
	"errors"
	"io"
)

// bufferSize is how much is read at once.
const bufferSize = 64 << 10

// lines cuts a stream into lines without ever holding more than limit bytes of one.
type lines struct {
	r     *bufio.Reader
	limit int
	buf   []byte // the line, where it did not fit into the buffer of r
}

func newLines(r io.Reader, limit int) *lines {
	return &lines{r: bufio.NewReaderSize(r, bufferSize), limit: limit}
}

// next returns the next line without its end; it is valid until the next call. size is
// its length; where that is above the limit, the line itself is not returned. At the
// end of the stream the error is io.EOF.
func (l *lines) next() (line []byte, size int, err error) {
	l.buf = l.buf[:0]
	for {
		piece, err := l.r.ReadSlice('\n')
		size += len(piece)
		more := errors.Is(err, bufio.ErrBufferFull)
		last := errors.Is(err, io.EOF) && size > 0 // a line without an end
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

func (l *lines) finish(line []byte, size int) ([]byte, int, error) {
	whole := len(line) == size
	line = bytes.TrimSuffix(line, []byte("\n"))
	line = bytes.TrimSuffix(line, []byte("\r"))
	if !whole || len(line) > l.limit {
		return nil, size, nil
	}
	return line, len(line), nil
}
