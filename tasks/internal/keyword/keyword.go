package keyword

import (
	"bytes"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// A rule is the rule of WeChat's page for keywords of one type. Only values that
// certainly break it are refused; WeChat answers others with 47003.
// https://developers.weixin.qq.com/miniprogram/dev/OpenApiDoc/mp-message-management/subscribe-message/sendMessage.html
type rule struct {
	typ  string // the name of the type: thing for thing1
	desc string // the rule, for the message
	// violation describes how a text breaks the rule. It returns "" if the text does not.
	violation func(text string) string
}

// rules has no row for enum and const, whose values the template declares.
var rules = [...]rule{
	{"thing", "at most 20 characters", func(s string) string { return tooLong(s, 20) }},
	{"number", "digits only, at most 32, with or without decimals", numberViolation},
	{"letter", "letters only, at most 32", func(s string) string {
		return firstFault(tooLong(s, 32), forbidden(s, func(r rune) bool { return isHan(r) || unicode.IsDigit(r) || unicode.IsPunct(r) }))
	}},
	{"symbol", "symbols only, at most 5", func(s string) string {
		return firstFault(tooLong(s, 5), forbidden(s, func(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) }))
	}},
	{"character_string", "digits, letters and symbols, no Chinese characters, at most 32", func(s string) string {
		return firstFault(tooLong(s, 32), forbidden(s, isHan))
	}},
	{"time", "a time of a 24-hour clock such as 15:01 or 2019年10月1日 15:01, or two of them with ~ between", timeViolation},
	{"date", "a date such as 2019-10-01, 2019/10/01 or 2019年10月1日, with or without a time of a 24-hour clock, or two of them with ~ between", timeViolation},
	{"amount", "one currency sign and at most 10 digits, with or without decimals, 元 allowed at the end", amountViolation},
	{"phone_number", "at most 17 digits and symbols", func(s string) string {
		return firstFault(tooLong(s, 17), forbidden(s, unicode.IsLetter))
	}},
	{"car_number", "at most 8 letters and digits, of which the first and the last may be Chinese", carNumberViolation},
	{"name", "at most 10 characters with Chinese ones among them, else at most 20", func(s string) string {
		if strings.ContainsFunc(s, isHan) {
			return tooLong(s, 10)
		}
		return tooLong(s, 20)
	}},
	{"phrase", "at most 5 Chinese characters and nothing else", func(s string) string {
		return firstFault(tooLong(s, 5), forbidden(s, func(r rune) bool { return !isHan(r) }))
	}},
}

// Problem describes why text cannot be the value of the keyword, by the type that its name begins
// with: thing for thing1. It returns "" if it can, or if there is no rule for the type.
func Problem(name, text []byte) string {
	if len(bytes.TrimSpace(text)) == 0 {
		return "empty, which WeChat refuses (47003): give it a value"
	}
	typ := Type(name)
	for i := range rules {
		r := &rules[i]
		if r.typ != string(typ) {
			continue
		}
		s := string(text)
		if violation := firstFault(forbidden(s, unicode.IsControl), r.violation(s)); violation != "" {
			return fmt.Sprintf("%s; a %s keyword takes %s", violation, r.typ, r.desc)
		}
		break
	}
	return ""
}

// Known reports whether there is a rule for a type.
func Known(typ string) bool {
	for i := range rules {
		if rules[i].typ == typ {
			return true
		}
	}
	return false
}

// Type returns the type in a keyword's name: thing for thing1. It returns nil for a
// name without a number at its end.
func Type(name []byte) []byte {
	typ := bytes.TrimRight(name, "0123456789")
	if len(typ) == len(name) {
		return nil
	}
	return typ
}

func isHan(r rune) bool { return unicode.Is(unicode.Han, r) }

// countDigits returns the number of digits in s.
func countDigits(s string) (n int) {
	for _, r := range s {
		if unicode.IsDigit(r) {
			n++
		}
	}
	return n
}

func numberViolation(s string) string {
	n := countDigits(s)
	switch {
	case n == 0:
		return "no digit"
	case n > 32:
		return fmt.Sprintf("%d digits", n)
	}
	return forbidden(s, unicode.IsLetter)
}

func amountViolation(s string) string {
	s = strings.TrimSpace(s)
	whole, decimals, _ := strings.Cut(strings.TrimSuffix(s, "元"), ".")
	n := countDigits(whole)
	switch {
	case n == 0 && countDigits(decimals) == 0:
		return "no digit"
	case n > 10:
		return fmt.Sprintf("%d digits before the point", n)
	case strings.Contains(decimals, "."):
		return "two decimal points"
	}
	return forbidden(strings.TrimSuffix(s, "元"), isHan)
}

func carNumberViolation(s string) string {
	if v := tooLong(s, 8); v != "" {
		return v
	}
	plate := []rune(s)
	for i, r := range plate {
		if i > 0 && i < len(plate)-1 && isHan(r) {
			return fmt.Sprintf("a Chinese character at character %d", i+1)
		}
	}
	return ""
}

// timeViolation returns a fault if s is neither a time of day nor a date. Latin letters are
// refused because of 2019-10-01T15:01:00Z and 3pm, and more than 8 digits without anything
// else because they are Unix time.
func timeViolation(s string) string {
	n := countDigits(s)
	switch {
	case n == 0:
		return "no digit"
	case n > 8 && n == utf8.RuneCountInString(s):
		return fmt.Sprintf("%d digits and nothing else", n)
	}
	if v := forbidden(s, func(r rune) bool { return r < utf8.RuneSelf && unicode.IsLetter(r) }); v != "" {
		return v
	}
	return clockViolation(s)
}

// clockViolation checks the hours, minutes and seconds around each colon.
func clockViolation(s string) string {
	isSeparator := func(r rune) bool { return (r < '0' || r > '9') && r != ':' }
	for field := range strings.FieldsFuncSeq(s, isSeparator) {
		if !strings.Contains(field, ":") {
			continue
		}
		limit := "24"
		for part := range strings.SplitSeq(field, ":") {
			if len(part) > 2 || len(part) == 2 && part > limit {
				return "not a time of day"
			}
			limit = "59"
		}
	}
	return ""
}
