// Package printable makes untrusted text safe to print: on a terminal, in a table with one line
// per row, in a log.
package printable

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Escape returns s with each character that does not print as itself escaped as in Go's string
// literals: line ends and tabs, ESC and other control characters, characters that change the
// direction of text, line and paragraph separators, and bytes that are not UTF-8.
func Escape(s string) string {
	if !strings.ContainsFunc(s, hidden) {
		return s
	}
	b := make([]byte, 0, len(s)+16)
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && size == 1:
			b = fmt.Appendf(b, `\x%02x`, s[0])
		case hidden(r):
			quoted := strconv.AppendQuoteRuneToASCII(nil, r)
			b = append(b, quoted[1:len(quoted)-1]...)
		default:
			b = append(b, s[:size]...)
		}
		s = s[size:]
	}
	return string(b)
}

// EscapeJSON returns equivalent JSON without characters that a terminal interprets. encoding/json
// escapes only those below U+0020, U+2028 and U+2029.
func EscapeJSON(text []byte) []byte {
	var b []byte // nil until something is escaped
	done := 0
	for at := 0; at < len(text); {
		r, size := utf8.DecodeRune(text[at:])
		if r != '\n' && r != '\t' && r != '\r' && r != utf8.RuneError && hidden(r) {
			b = append(b, text[done:at]...)
			for _, unit := range utf16Units(r) {
				b = fmt.Appendf(b, `\u%04x`, unit)
			}
			done = at + size
		}
		at += size
	}
	if b == nil {
		return text
	}
	return append(b, text[done:]...)
}

// utf16Units returns r in UTF-16, the form of JSON's escapes.
func utf16Units(r rune) []rune {
	if r < 0x10000 {
		return []rune{r}
	}
	r -= 0x10000
	return []rune{0xd800 + r>>10, 0xdc00 + r&0x3ff}
}

// hidden reports whether r does not print as itself. Spaces other than the tab do, and the zero
// width joiner of emoji (U+200D) is kept.
func hidden(r rune) bool {
	return r == utf8.RuneError || !unicode.IsPrint(r) && !unicode.Is(unicode.Zs, r) && r != '\u200d'
}
