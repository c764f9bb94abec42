package wechat

import (
	"fmt"
	"io"
	"log/slog"
)

const redacted = "[redacted]"

// Secret is a text that cannot print itself: an app secret or an access token.
// Every way of formatting, logging or marshalling it gives "[redacted]" (and ""
// when it is empty, so that a missing secret shows); only Reveal gives the text.
type Secret string

// Reveal returns the text itself, for the one place that has to write it out.
func (s Secret) Reveal() string { return string(s) }

// String returns "[redacted]", or "" when s is empty.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return redacted
}

// GoString is String, for those who call it themselves.
func (s Secret) GoString() string { return s.String() }

// Format writes String for every verb: without it a wrong verb would print the text.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// MarshalText is String as bytes; it serves JSON and YAML too.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// MarshalJSON is String as a JSON string.
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + s.String() + `"`), nil }

// LogValue is String as a log value.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }
