package printable

import (
	"bufio"
	"encoding/json"
	"io"
	"sync"
)

// JSONLines writes values as JSON Lines, escaped by [EscapeJSON]. It is safe for concurrent use.
// After the first error it writes nothing more, and returns that error from each call.
type JSONLines struct {
	mu      sync.Mutex
	buffer  *bufio.Writer // guarded by mu
	encoder *json.Encoder // guarded by mu
	err     error         // guarded by mu
}

// NewJSONLines returns a JSONLines that buffers its lines; Flush writes them to w.
func NewJSONLines(w io.Writer) *JSONLines {
	buffer := bufio.NewWriterSize(w, 64<<10)
	encoder := json.NewEncoder(JSONWriter(buffer)) // Encode makes one Write per value
	encoder.SetEscapeHTML(false)
	return &JSONLines{buffer: buffer, encoder: encoder}
}

// Write adds the line of a value.
func (l *JSONLines) Write(v any) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		l.err = l.encoder.Encode(v)
	}
	return l.err
}

// Flush writes the lines so far.
func (l *JSONLines) Flush() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		l.err = l.buffer.Flush()
	}
	return l.err
}

// JSONWriter returns a writer of JSON to w that escapes it by [EscapeJSON]. Each Write must be a
// whole value, as those of a json.Encoder are.
func JSONWriter(w io.Writer) io.Writer { return jsonWriter{w} }

type jsonWriter struct{ w io.Writer }

func (e jsonWriter) Write(value []byte) (int, error) {
	if _, err := e.w.Write(EscapeJSON(value)); err != nil {
		return 0, err
	}
	return len(value), nil
}
