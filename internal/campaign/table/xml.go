package table

import (
	"bytes"
	"errors"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"
)

// tokenKind is the kind of a token of XML.
type tokenKind uint8

const (
	startTag tokenKind = iota + 1
	endTag
	charData
)

// token is a tag or a text of XML. Its slices are valid until the next token.
type token struct {
	kind  tokenKind
	name  []byte // of a tag, without prefix
	text  []byte // of a charData, or the attributes of a start tag as they are written
	empty bool   // <a/>: an end tag follows
}

// attribute returns the value of an attribute by its name, "" if there is none. The name of one with
// a prefix begins with a colon.
func (t token) attribute(name string) string {
	for rest := t.text; ; {
		rest = bytes.TrimLeft(rest, " \t\r\n")
		key, after, found := bytes.Cut(rest, []byte("="))
		after = bytes.TrimLeft(after, " \t\r\n")
		if !found || len(after) == 0 || after[0] != '"' && after[0] != '\'' {
			return ""
		}
		value, next, closed := bytes.Cut(after[1:], after[:1])
		if !closed {
			return ""
		}
		if key = bytes.TrimRight(key, " \t\r\n"); name[0] == ':' {
			if at := bytes.IndexByte(key, ':'); at > 0 && string(key[at:]) == name {
				return string(unescape(value))
			}
		} else if string(key) == name {
			return string(unescape(value))
		}
		rest = next
	}
}

// tokenizer reads the part of XML that workbooks use: no document types, and so no entities of their
// own. It does not check that tags match. It is several times faster than encoding/xml, which a
// table of a million cells is worth.
type tokenizer struct {
	r    io.Reader
	buf  []byte
	pos  int   // of the next token in buf
	err  error // of r
	last token
}

func newTokenizer(r io.Reader) *tokenizer { return &tokenizer{r: r, buf: make([]byte, 0, 64<<10)} }

// next returns the next token, or io.EOF.
func (x *tokenizer) next() (token, error) {
	if x.last.empty {
		x.last = token{kind: endTag, name: x.last.name}
		return x.last, nil
	}
	for {
		t, skipped, err := x.read()
		if err != nil || !skipped {
			x.last = t
			return t, err
		}
	}
}

var errXML = errorf("the workbook is damaged: its XML is not valid")

// read reads what is next. Comments and instructions are skipped.
func (x *tokenizer) read() (t token, skipped bool, err error) {
	if err := x.need(1); err != nil {
		return token{}, false, err
	}
	if x.buf[x.pos] != '<' {
		text, err := x.until("<", true)
		if err == nil && !utf8.Valid(text) {
			err = errXML
		}
		return token{kind: charData, text: unescape(text)}, false, err
	}
	if err := x.need(len("<!--")); err != nil {
		return token{}, false, cutOff(err)
	}
	switch rest := x.buf[x.pos:]; {
	case bytes.HasPrefix(rest, []byte("<?")):
		text, err := x.until("?>", false)
		if at := bytes.Index(text, []byte("encoding=")); err == nil && at >= 0 && !bytes.HasPrefix(bytes.ToLower(text[at+len("encoding="):])[1:], []byte("utf-8")) {
			err = errorf("the workbook is not in UTF-8: save it again")
		}
		return token{}, true, err
	case bytes.HasPrefix(rest, []byte("<!--")):
		_, err := x.until("-->", false)
		return token{}, true, err
	case bytes.HasPrefix(rest, []byte("<![C")):
		text, err := x.until("]]>", false)
		if text = bytes.TrimPrefix(text, []byte("<![CDATA[")); err == nil && !utf8.Valid(text) {
			err = errXML
		}
		return token{kind: charData, text: text}, false, err
	case rest[1] == '!':
		return token{}, false, errXML
	}
	t, err = x.tag()
	return t, false, err
}

// tag reads a tag.
func (x *tokenizer) tag() (token, error) {
	text, err := x.until(">", false)
	for err == nil && bytes.Count(text, []byte(`"`))%2 == 1 { // a > inside of a value
		x.pos -= len(text) + 1
		text, err = x.untilFrom(len(text)+1, ">", false)
	}
	if err != nil {
		return token{}, err
	}
	text = text[1:] // <
	t := token{kind: startTag}
	if len(text) > 0 && text[0] == '/' {
		t.kind, text = endTag, text[1:]
	} else if len(text) > 0 && text[len(text)-1] == '/' {
		t.empty, text = true, text[:len(text)-1]
	}
	end := bytes.IndexAny(text, " \t\r\n")
	if end < 0 {
		end = len(text)
	}
	t.name, t.text = text[:end], text[end:]
	if at := bytes.IndexByte(t.name, ':'); at >= 0 {
		t.name = t.name[at+1:]
	}
	if len(t.name) == 0 || bytes.IndexByte(text, '<') >= 0 {
		return token{}, errXML
	}
	return t, nil
}

// until returns the text from the position to an end, and moves behind the end, or to it with keep.
func (x *tokenizer) until(end string, keep bool) ([]byte, error) {
	return x.untilFrom(0, end, keep)
}

// untilFrom is until for an end that is not in the first bytes.
func (x *tokenizer) untilFrom(from int, end string, keep bool) ([]byte, error) {
	for {
		if at := bytes.Index(x.buf[x.pos+from:], []byte(end)); at >= 0 {
			text := x.buf[x.pos : x.pos+from+at]
			x.pos += from + at
			if !keep {
				x.pos += len(end)
			}
			return text, nil
		}
		from = max(0, len(x.buf)-x.pos-len(end)+1)
		if err := x.fill(); err != nil {
			if keep && errors.Is(err, io.EOF) { // the text at the end of the file
				text := x.buf[x.pos:]
				x.pos = len(x.buf)
				return text, nil
			}
			return nil, cutOff(err)
		}
	}
}

// need reads until there are n bytes.
func (x *tokenizer) need(n int) error {
	for len(x.buf)-x.pos < n {
		if err := x.fill(); err != nil {
			return err
		}
	}
	return nil
}

// fill reads more. It moves or enlarges the buffer.
func (x *tokenizer) fill() error {
	if x.err != nil {
		return x.err
	}
	if x.pos > 0 {
		x.buf = x.buf[:copy(x.buf, x.buf[x.pos:])]
		x.pos = 0
	}
	if len(x.buf) == cap(x.buf) {
		if len(x.buf) >= maxToken {
			return errBomb
		}
		x.buf = append(make([]byte, 0, 2*cap(x.buf)), x.buf...)
	}
	n, err := x.r.Read(x.buf[len(x.buf):cap(x.buf)])
	x.buf = x.buf[:len(x.buf)+n]
	if x.err = err; n > 0 {
		return nil
	}
	return err
}

// cutOff returns the error of a file that ends within a token.
func cutOff(err error) error {
	if errors.Is(err, io.EOF) {
		return errXML
	}
	return err
}

// unescape replaces the references of a text: &amp; and &#20013; and &#x4e2d;. Others stay as they
// are. It writes into the text.
func unescape(text []byte) []byte {
	at := bytes.IndexByte(text, '&')
	if at < 0 {
		return text
	}
	out, rest := text[:at], text[at:]
	for len(rest) > 0 {
		end := bytes.IndexByte(rest, ';')
		if rest[0] != '&' || end < 0 {
			next := bytes.IndexByte(rest[1:], '&') + 1
			if next == 0 {
				next = len(rest)
			}
			out, rest = append(out, rest[:next]...), rest[next:]
			continue
		}
		if r, ok := reference(string(rest[1:end])); ok {
			out, rest = utf8.AppendRune(out, r), rest[end+1:]
		} else {
			out, rest = append(out, '&'), rest[1:]
		}
	}
	return out
}

// reference returns the character of a reference.
func reference(name string) (rune, bool) {
	switch name {
	case "amp":
		return '&', true
	case "lt":
		return '<', true
	case "gt":
		return '>', true
	case "quot":
		return '"', true
	case "apos":
		return '\'', true
	}
	number, isNumber := strings.CutPrefix(name, "#")
	if !isNumber {
		return 0, false
	}
	base := 10
	if hex, isHex := strings.CutPrefix(number, "x"); isHex {
		number, base = hex, 16
	}
	n, err := strconv.ParseUint(number, base, 21)
	return rune(n), err == nil && n > 0 && utf8.ValidRune(rune(n))
}
