package tasks

import (
	"bytes"
	"iter"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"
)

// jsonKind is the JSON type of a value.
type jsonKind uint8

const (
	kindAbsent jsonKind = iota
	kindNull
	kindBool
	kindNumber
	kindString
	kindArray
	kindObject
)

// String names the type as error messages do.
func (k jsonKind) String() string {
	return [...]string{"nothing", "null", "true or false", "a number", "a string", "an array", "an object"}[min(k, kindObject)]
}

// A document is one JSON text, parsed into a flat list of its values, so that checks need
// not decode into maps or parse again.
type document struct {
	rootPath string // the first element of paths: "body", or "" for an envelope
	// text is the JSON without white space and with its escapes rewritten to raw UTF-8,
	// except quote, backslash and control characters. Numbers and the order of keys are
	// unchanged.
	text  []byte
	nodes []node // in the order of the text: a container, then its members or elements
}

// documentPool holds released documents, whose memory parse uses again. Allocating would take
// much of the time of a bulk enqueue.
var documentPool = sync.Pool{New: func() any { return new(document) }}

// release returns a document to the pool. Neither the document nor a slice of it may be used
// afterwards.
func (d *document) release() {
	const maxPooled = 4096 // bytes, nodes: the pool must not keep the memory of a large task
	if cap(d.text) <= maxPooled && cap(d.nodes) <= maxPooled {
		documentPool.Put(d)
	}
}

// node is one value: text[start:end], including the quotes of a string.
type node struct {
	kind             jsonKind
	escaped          bool // a string with escapes
	keyStart, keyEnd int32
	start, end       int32
	parent           int32 // -1 for the root
	next             int32 // index of the first node after this value and its contents
}

// value is one value of a document. The zero value is an absent one.
type value struct {
	doc   *document
	index int32
}

func (d *document) root() value { return value{d, 0} }

func (v value) node() *node { return &v.doc.nodes[v.index] }

// kind returns the JSON type, or kindAbsent.
func (v value) kind() jsonKind {
	if v.doc == nil {
		return kindAbsent
	}
	return v.node().kind
}

// present reports whether the value exists and is not null. A null counts as absent
// everywhere.
func (v value) present() bool { return v.kind() > kindNull }

// isZero reports whether the value is absent, null, "", 0, false, an empty array, or an
// object of such values only. SDKs send these for fields that their caller left out: Go
// structs without omitempty, and PHP, whose empty map is [].
func (v value) isZero() bool {
	switch v.kind() {
	case kindAbsent, kindNull:
		return true
	case kindBool:
		return v.raw()[0] == 'f'
	case kindNumber:
		return string(v.raw()) == "0"
	case kindString:
		return len(v.raw()) == len(`""`)
	case kindArray:
		return v.node().next == v.index+1
	case kindObject:
	}
	for member := range v.elements() {
		if !member.isZero() {
			return false
		}
	}
	return true
}

// raw returns the value's JSON.
func (v value) raw() []byte {
	n := v.node()
	return v.doc.text[n.start:n.end]
}

// key returns the name of a member of an object, as in the JSON: escapes are not resolved.
func (v value) key() []byte {
	n := v.node()
	return v.doc.text[n.keyStart:n.keyEnd]
}

// unquoted returns the content of a string, with its escapes resolved.
func (v value) unquoted() []byte {
	n := v.node()
	s := v.doc.text[n.start+1 : n.end-1]
	if n.escaped {
		return unescape(s)
	}
	return s
}

// elements yields the members of an object or the elements of an array.
func (v value) elements() iter.Seq[value] {
	return func(yield func(value) bool) {
		if v.doc == nil {
			return
		}
		for index, end := v.index+1, v.node().next; index < end; index = v.doc.nodes[index].next {
			if !yield(value{v.doc, index}) {
				return
			}
		}
	}
}

// member returns a member of an object by name, or an absent value.
func (v value) member(name string) value {
	if v.kind() != kindObject {
		return value{}
	}
	for index, end := v.index+1, v.node().next; index < end; index = v.doc.nodes[index].next {
		if n := &v.doc.nodes[index]; string(v.doc.text[n.keyStart:n.keyEnd]) == name {
			return value{v.doc, index}
		}
	}
	return value{}
}

// path returns the JSON path of the value from the envelope's root.
func (v value) path() string {
	n := v.node()
	if n.parent < 0 {
		return v.doc.rootPath
	}
	parent := value{v.doc, n.parent}
	if parent.kind() == kindArray {
		i := 0
		for index := n.parent + 1; index < v.index; index = v.doc.nodes[index].next {
			i++
		}
		return parent.path() + "[" + strconv.Itoa(i) + "]"
	}
	return join(parent.path(), string(v.key()))
}

// join appends a member's name to a path. A name that is not an identifier is quoted and
// truncated, so that every path is one readable line.
func join(path, name string) string {
	const maxName = 64
	plain := name != "" && len(name) <= maxName
	for i := 0; plain && i < len(name); i++ {
		plain = isAlnum(name[i]) || name[i] == '_' || name[i] == '-'
	}
	switch {
	case !plain:
		return path + "[" + quoted(name) + "]"
	case path == "":
		return name
	default:
		return path + "." + name
	}
}

// quoted quotes a string of the producer's, truncated to 32 characters.
func quoted(s string) string {
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

// appendString appends s as a JSON string with the necessary escapes only. Bytes that are not
// UTF-8 become U+FFFD.
func appendString(dst []byte, s string) []byte {
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
