package wechat

import (
	"fmt"
	"io"
	"log/slog"
)

const redacted = "[redacted]"

// Secret is an app secret, an access token, a session key, or personal data. Formatting, logging and marshalling it give
// "[redacted]", or "" when it is empty, so that a missing secret is visible. Only Reveal
// returns the text.
type Secret string

// Reveal returns the text itself.
func (s Secret) Reveal() string { return string(s) }

// String returns "[redacted]", or "" when s is empty.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return redacted
}

// GoString returns String.
func (s Secret) GoString() string { return s.String() }

// Format writes String for every verb; without it, a verb such as %x would print the text.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// MarshalText returns String as bytes; YAML uses it too.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// MarshalJSON returns String as a JSON string.
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + s.String() + `"`), nil }

// LogValue returns String as a log value.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }
