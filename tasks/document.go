package tasks

import (
	"bytes"
	"iter"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"
)

// kind is the JSON type of a value.
type kind uint8

const (
	isAbsent kind = iota
	isNull
	isBool
	isNumber
	isText
	isArray
	isObject
)

// String names the type as error messages do.
func (k kind) String() string {
	return [...]string{"nothing", "null", "true or false", "a number", "a string", "an array", "an object"}[min(k, isObject)]
}

// A document is one JSON text, parsed once into a flat list of its values, so that
// checks neither decode into maps nor parse again.
type document struct {
	root string // what paths start with: "body", or "" for an envelope
	// text is the JSON without white space and with its escapes rewritten to raw
	// UTF-8, but for quote, backslash and control characters. Numbers and the
	// order of keys are as they came.
	text  []byte
	nodes []node // in the order of the text: a container, then what it holds
}

// documents that are done with, for parse to use their memory again: a bulk enqueue would
// else spend much of its time on that.
var documents = sync.Pool{New: func() any { return new(document) }}

// release gives a document's memory back. Nothing of the document may be used after it.
func (d *document) release() {
	const most = 4096 // of each: a single large task shall not cost its memory for ever
	if cap(d.text) <= most && cap(d.nodes) <= most {
		documents.Put(d)
	}
}

// node is one value: text[start:end], with the quotes of a string.
type node struct {
	kind             kind
	escaped          bool // a string that holds escapes
	keyStart, keyEnd int32
	start, end       int32
	parent           int32 // -1 for the root
	next             int32 // the first node behind this value and all that it holds
}

// value is one value of a document; the zero value stands for an absent one.
type value struct {
	doc *document
	at  int32
}

func (d *document) top() value { return value{d, 0} }

func (v value) node() *node { return &v.doc.nodes[v.at] }

// kind is isAbsent for a value that is not there.
func (v value) kind() kind {
	if v.doc == nil {
		return isAbsent
	}
	return v.node().kind
}

// present: there, and not null. A null stands for "left out" everywhere.
func (v value) present() bool { return v.kind() > isNull }

// zero tells whether the value says nothing: absent, null, "", 0, false, an empty array, or
// an object of nothing else. SDKs send such values for fields that their caller left out:
// Go structs without omitempty do, and PHP, whose empty map is [].
func (v value) zero() bool {
	switch v.kind() {
	case isAbsent, isNull:
		return true
	case isBool:
		return v.raw()[0] == 'f'
	case isNumber:
		return string(v.raw()) == "0"
	case isText:
		return len(v.raw()) == len(`""`)
	case isArray:
		return v.node().next == v.at+1
	case isObject:
	}
	for member := range v.elements() {
		if !member.zero() {
			return false
		}
	}
	return true
}

// raw is the value's JSON.
func (v value) raw() []byte {
	n := v.node()
	return v.doc.text[n.start:n.end]
}

// key is the name of a member of an object, as it stands in the JSON.
func (v value) key() []byte {
	n := v.node()
	return v.doc.text[n.keyStart:n.keyEnd]
}

// content is what a string says.
func (v value) content() []byte {
	n := v.node()
	s := v.doc.text[n.start+1 : n.end-1]
	if n.escaped {
		return unescape(s)
	}
	return s
}

// elements are the members of an object or the elements of an array.
func (v value) elements() iter.Seq[value] {
	return func(yield func(value) bool) {
		if v.doc == nil {
			return
		}
		for at, end := v.at+1, v.node().next; at < end; at = v.doc.nodes[at].next {
			if !yield(value{v.doc, at}) {
				return
			}
		}
	}
}

// member finds a member of an object by name.
func (v value) member(name string) value {
	if v.kind() != isObject {
		return value{}
	}
	for at, end := v.at+1, v.node().next; at < end; at = v.doc.nodes[at].next {
		if n := &v.doc.nodes[at]; string(v.doc.text[n.keyStart:n.keyEnd]) == name {
			return value{v.doc, at}
		}
	}
	return value{}
}

// path is where the value is, from the envelope's root.
func (v value) path() string {
	n := v.node()
	if n.parent < 0 {
		return v.doc.root
	}
	parent := value{v.doc, n.parent}
	if parent.kind() == isArray {
		i := 0
		for at := n.parent + 1; at < v.at; at = v.doc.nodes[at].next {
			i++
		}
		return parent.path() + "[" + strconv.Itoa(i) + "]"
	}
	return join(parent.path(), string(v.key()))
}

// join appends a member's name to a path. A name that is not a plain word is quoted
// and cut, so that a path stays one readable line whatever was sent.
func join(path, name string) string {
	const longest = 64
	plain := name != "" && len(name) <= longest
	for i := 0; plain && i < len(name); i++ {
		plain = alphanumeric(name[i]) || name[i] == '_' || name[i] == '-'
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

// quoted quotes a word that was sent, cut to 32 characters.
func quoted(word string) string {
	const longest = 32
	if utf8.RuneCountInString(word) > longest {
		word = string([]rune(word)[:longest]) + "…"
	}
	return strconv.Quote(word)
}

// unescape undoes the escapes that a document's text may hold.
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
			out = append(out, s[i+1]) // quote and backslash stand for themselves
		}
		s = s[i+2:]
	}
}

// The letters of JSON's short escapes, and what they stand for.
const (
	shortEscapes = "bfnrt"
	shortEscaped = "\b\f\n\r\t"
)

// appendString appends s as a JSON string, with nothing escaped that need not be.
// Bytes that are not UTF-8 become U+FFFD.
func appendString(dst []byte, s string) []byte {
	plain := 0 // most are nothing else
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
