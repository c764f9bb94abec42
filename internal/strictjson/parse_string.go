package strictjson

import (
	"fmt"
	"unicode/utf16"
	"unicode/utf8"
)

// parseString parses a string and rewrites its escapes to UTF-8. escaped reports whether
// some of the escapes are required and stay.
func (p *parser) parseString(index int32) (escaped bool, fault *Fault) {
	p.emit(1)
	for {
		end := p.pos
		for end < len(p.src) && p.src[end] != '"' && p.src[end] != '\\' && p.src[end] >= 0x20 {
			end++
		}
		if chunk := p.src[p.pos:end]; !utf8.Valid(chunk) {
			p.pos += validPrefix(chunk)
			return false, p.syntaxError(index, "a byte that is not UTF-8: send text as UTF-8")
		}
		p.emit(end - p.pos)
		switch {
		case p.pos == len(p.src):
			return false, p.syntaxError(index, "it ends inside a string")
		case p.src[p.pos] == '"':
			p.emit(1)
			return escaped, nil
		case p.src[p.pos] != '\\':
			return false, p.syntaxError(index, fmt.Sprintf(`a raw control character in a string: write it as \u%04x`, p.src[p.pos]))
		}
		kept, fault := p.parseEscape(index)
		if fault != nil {
			return false, fault
		}
		escaped = escaped || kept
	}
}

// validPrefix returns the length of the longest prefix of s that is valid UTF-8.
func validPrefix(s []byte) int {
	n := 0
	for n < len(s) {
		r, size := utf8.DecodeRune(s[n:])
		if r == utf8.RuneError && size == 1 {
			break
		}
		n += size
	}
	return n
}

// parseEscape rewrites one escape. kept reports whether the escape is required and stays.
func (p *parser) parseEscape(index int32) (kept bool, fault *Fault) {
	if p.pos+1 >= len(p.src) {
		return false, p.syntaxError(index, "it ends inside a string")
	}
	switch p.src[p.pos+1] {
	case '"', '\\', 'b', 'f', 'n', 'r', 't':
		p.emit(2)
		return true, nil
	case '/':
		p.text = append(p.text, '/')
		p.pos += 2
		return false, nil
	case 'u':
	default:
		return false, p.syntaxError(index, `an unknown escape: the escapes are \" \\ \/ \b \f \n \r \t \uXXXX`)
	}
	r, ok := p.parseHex(p.pos)
	if !ok {
		return false, p.syntaxError(index, `\u must be followed by four hexadecimal digits`)
	}
	size := 6
	if utf16.IsSurrogate(r) {
		low, _ := p.parseHex(p.pos + 6)
		if r = utf16.DecodeRune(r, low); r == utf8.RuneError {
			return false, p.syntaxError(index, `half of a surrogate pair: a character beyond U+FFFF needs both halves (such as \ud83d\ude00), or write it as UTF-8`)
		}
		size = 12
	}
	p.pos += size
	p.text = appendChar(p.text, r)
	return r < 0x20 || r == '"' || r == '\\', nil
}

// parseHex parses a \uXXXX at position i.
func (p *parser) parseHex(i int) (rune, bool) {
	if i+6 > len(p.src) || p.src[i] != '\\' || p.src[i+1] != 'u' {
		return 0, false
	}
	var r rune
	for _, c := range p.src[i+2 : i+6] {
		switch {
		case c >= '0' && c <= '9':
			r = r<<4 | rune(c-'0')
		case c >= 'a' && c <= 'f':
			r = r<<4 | rune(c-'a'+10)
		case c >= 'A' && c <= 'F':
			r = r<<4 | rune(c-'A'+10)
		default:
			return 0, false
		}
	}
	return r, true
}
