package strictjson

import (
	"bytes"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Quote quotes a string for a message, truncated to 32 characters.
func Quote(s string) string {
	const maxRunes = 32
	if utf8.RuneCountInString(s) > maxRunes {
		s = string([]rune(s)[:maxRunes]) + "…"
	}
	return strconv.Quote(s)
}

// unescape resolves the escapes that a document's text may contain.
func unescape(s []byte) []byte {
	out := make([]byte, 0, len(s))
	for {
		i := bytes.IndexByte(s, '\\')
		if i < 0 {
			return append(out, s...)
		}
		out = append(out, s[:i]...)
		if s[i+1] == 'u' {
			code, _ := strconv.ParseUint(string(s[i+2:i+6]), 16, 16)
			out, s = utf8.AppendRune(out, rune(code)), s[i+6:]
			continue
		}
		if j := strings.IndexByte(shortEscapes, s[i+1]); j >= 0 {
			out = append(out, shortEscaped[j])
		} else {
			out = append(out, s[i+1]) // a quote or a backslash
		}
		s = s[i+2:]
	}
}

// The letters of JSON's short escapes, and the characters that they represent.
const (
	shortEscapes = "bfnrt"
	shortEscaped = "\b\f\n\r\t"
)

// AppendQuote appends s as a JSON string with the necessary escapes only. Bytes that are not
// UTF-8 become U+FFFD.
func AppendQuote(dst []byte, s string) []byte {
	plain := 0 // length of the ASCII prefix that needs no escape; most strings are only that
	for plain < len(s) && s[plain] >= 0x20 && s[plain] < utf8.RuneSelf && s[plain] != '"' && s[plain] != '\\' {
		plain++
	}
	dst = append(append(dst, '"'), s[:plain]...)
	for _, r := range s[plain:] {
		dst = appendChar(dst, r)
	}
	return append(dst, '"')
}

// appendChar appends one character of a JSON string.
func appendChar(dst []byte, r rune) []byte {
	switch {
	case r == '"' || r == '\\':
		return append(dst, '\\', byte(r))
	case r >= 0x20:
		return utf8.AppendRune(dst, r)
	}
	if i := strings.IndexRune(shortEscaped, r); i >= 0 {
		return append(dst, '\\', shortEscapes[i])
	}
	const digits = "0123456789abcdef"
	return append(dst, '\\', 'u', '0', '0', digits[r>>4], digits[r&15])
}
