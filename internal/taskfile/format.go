package taskfile

import (
	"bytes"
	"fmt"
)

// FormatError means that a line belongs to a file of another format. It is the error of the
// first line, by which the format is recognized, and of all later lines that are not whole JSON
// objects. An unbounded stream may have one bad line at its beginning: its later lines get the
// faults of their own.
type FormatError struct {
	Format string // such as "CSV (4 columns)"
	First  bool   // the line is the first one
}

// Error says what the file looks like and what is expected.
func (e *FormatError) Error() string {
	return "this looks like " + e.Format + `; expected are JSON Lines: one task per line, such as ` +
		`{"type":"send:subscribe","app":"wx0123456789abcdef","id":"order-42","body":{…}}`
}

// recognize returns the error of a line that is not a task: err, or a FormatError if the file
// has another format.
func (s *Source) recognize(line []byte, err error) error {
	text := bytes.TrimSpace(line)
	switch {
	case bytes.HasPrefix(text, []byte("{")) && bytes.HasSuffix(text, []byte("}")):
		return err
	case s.format != "" && !s.Unbounded:
		return &FormatError{Format: s.format}
	case s.line > 1:
		return err
	}
	if s.format = formatOf(bytes.TrimPrefix(line, []byte("\uFEFF"))); s.format == "" {
		return err
	}
	return &FormatError{Format: s.format, First: true}
}

// formatOf returns the name of the format whose files begin with such a line, or "".
func formatOf(line []byte) string {
	text := bytes.TrimSpace(line)
	switch {
	case bytes.HasPrefix(line, []byte("PK\x03\x04")):
		return "a ZIP archive or an Excel file"
	case bytes.HasPrefix(line, []byte("\x1f\x8b")):
		return "a gzip file"
	case bytes.HasPrefix(line, []byte("\xff\xfe")), bytes.HasPrefix(line, []byte("\xfe\xff")):
		return "UTF-16 text"
	case string(text) == "{":
		return "JSON over several lines"
	case bytes.HasPrefix(text, []byte("[")):
		return "a JSON array"
	case bytes.HasPrefix(text, []byte("{")), bytes.ContainsAny(text, "{}<>\x00"):
		return ""
	}
	for _, separator := range []struct{ char, name string }{{"\t", "a table with tabs"}, {",", "CSV"}, {";", "CSV with semicolons"}} {
		if n := bytes.Count(text, []byte(separator.char)); n > 0 {
			return fmt.Sprintf("%s (%d columns)", separator.name, n+1)
		}
	}
	return ""
}
