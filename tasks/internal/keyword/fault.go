package keyword

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// DescribeRune names the kind of a character, for messages, which must not contain text of
// the body.
func DescribeRune(r rune) string {
	switch {
	case r == '\n' || r == '\r':
		return "a line break"
	case unicode.IsControl(r):
		return "a control character"
	case unicode.IsSpace(r):
		return "a space"
	case unicode.Is(unicode.Han, r):
		return "a Chinese character"
	case unicode.IsLetter(r):
		return "a letter"
	case unicode.IsDigit(r):
		return "a digit"
	case r > ' ' && r < unicode.MaxASCII:
		return fmt.Sprintf("%q", string(r))
	case unicode.IsPunct(r):
		return "a punctuation mark"
	default:
		return "a symbol"
	}
}

// firstFault returns the first fault that is not "".
func firstFault(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// tooLong returns a fault if s has more than limit characters. WeChat's page does not say
// how it counts; every other way of counting gives at least this number.
func tooLong(s string, limit int) string {
	if n := utf8.RuneCountInString(s); n > limit {
		return fmt.Sprintf("%d characters", n)
	}
	return ""
}

// forbidden returns a fault for the first forbidden character of s.
func forbidden(s string, isForbidden func(rune) bool) string {
	i := strings.IndexFunc(s, isForbidden)
	if i < 0 {
		return ""
	}
	r, _ := utf8.DecodeRuneInString(s[i:])
	return fmt.Sprintf("%s at character %d", DescribeRune(r), utf8.RuneCountInString(s[:i])+1)
}
