package strictjson

import (
	"iter"
	"strconv"
	"sync"
)

// Kind is the JSON type of a value.
type Kind uint8

// The kinds.
const (
	Absent Kind = iota // no value: a member that an object does not have
	Null
	Bool
	Number
	String
	Array
	Object
)

// String names the type as messages do: "a number".
func (k Kind) String() string {
	return [...]string{"nothing", "null", "true or false", "a number", "a string", "an array", "an object"}[min(k, Object)]
}

// Document is one JSON text, parsed into a flat list of its values, so that checks need not
// decode into maps or parse again.
type Document struct {
	rootPath string // the first element of paths: "body", or "" for an envelope
	text     []byte // see Text
	nodes    []node // in the order of the text: a container, then its members or elements
}

// documentPool holds released documents, whose memory Parse uses again. Allocating would take
// much of the time of a bulk enqueue.
var documentPool = sync.Pool{New: func() any { return new(Document) }}

// Release lets Parse use the document's memory again. Neither the document nor a slice of it
// may be used afterwards. Calling it is optional.
func (d *Document) Release() {
	const maxPooled = 4096 // bytes, nodes: the pool must not keep the memory of a large task
	if cap(d.text) <= maxPooled && cap(d.nodes) <= maxPooled {
		documentPool.Put(d)
	}
}

// node is one value: text[start:end], including the quotes of a string.
type node struct {
	kind             Kind
	escaped          bool // a string with escapes
	keyStart, keyEnd int32
	start, end       int32
	parent           int32 // -1 for the root
	next             int32 // index of the first node after this value and its contents
}

// Value is one value of a document. Its zero value is an absent one, for which only Kind,
// Present, IsZero, Elements and Member may be called.
type Value struct {
	doc   *Document
	index int32
}

// Root returns the value that the text is.
func (d *Document) Root() Value { return Value{d, 0} }

// Text returns the JSON without white space and with its escapes rewritten to raw UTF-8,
// except quote, backslash and control characters. Numbers and the order of members are
// unchanged.
func (d *Document) Text() []byte { return d.text }

// KeepText excludes the slice that Text returns from Release, so that it may be used
// afterwards. The document itself may then only be released.
func (d *Document) KeepText() { d.text = nil }

func (v Value) node() *node { return &v.doc.nodes[v.index] }

// Kind returns the JSON type, or Absent.
func (v Value) Kind() Kind {
	if v.doc == nil {
		return Absent
	}
	return v.node().kind
}

// Present reports whether the value exists and is not null.
func (v Value) Present() bool { return v.Kind() > Null }

// IsZero reports whether the value is absent, null, "", 0, false, an empty array, or an
// object of such values only. SDKs send these for fields that their caller left out: Go
// structs without omitempty, and PHP, whose empty map is [].
func (v Value) IsZero() bool {
	switch v.Kind() {
	case Absent, Null:
		return true
	case Bool:
		return v.Raw()[0] == 'f'
	case Number:
		return string(v.Raw()) == "0"
	case String:
		return len(v.Raw()) == len(`""`)
	case Array:
		return v.IsEmpty()
	case Object:
	}
	for member := range v.Elements() {
		if !member.IsZero() {
			return false
		}
	}
	return true
}

// IsEmpty reports whether an object has no members or an array no elements.
func (v Value) IsEmpty() bool { return v.node().next == v.index+1 }

// Raw returns the value's JSON, a part of the document's text.
func (v Value) Raw() []byte {
	n := v.node()
	return v.doc.text[n.start:n.end]
}

// Span returns the position of the value in the document's text: Text()[start:end] is Raw.
func (v Value) Span() (start, end int) {
	n := v.node()
	return int(n.start), int(n.end)
}

// Key returns the name of a member of an object, as in the text: escapes are not resolved.
func (v Value) Key() []byte {
	n := v.node()
	return v.doc.text[n.keyStart:n.keyEnd]
}

// Unquoted returns the content of a string, with its escapes resolved.
func (v Value) Unquoted() []byte {
	n := v.node()
	s := v.doc.text[n.start+1 : n.end-1]
	if n.escaped {
		return unescape(s)
	}
	return s
}

// Elements yields the members of an object or the elements of an array.
func (v Value) Elements() iter.Seq[Value] {
	return func(yield func(Value) bool) {
		if v.doc == nil {
			return
		}
		for index, end := v.index+1, v.node().next; index < end; index = v.doc.nodes[index].next {
			if !yield(Value{v.doc, index}) {
				return
			}
		}
	}
}

// Member returns a member of an object by name, or an absent value.
func (v Value) Member(name string) Value {
	if v.Kind() != Object {
		return Value{}
	}
	for index, end := v.index+1, v.node().next; index < end; index = v.doc.nodes[index].next {
		if n := &v.doc.nodes[index]; string(v.doc.text[n.keyStart:n.keyEnd]) == name {
			return Value{v.doc, index}
		}
	}
	return Value{}
}

// Path returns the path of the value from the root, such as body.articles[0].url.
func (v Value) Path() string {
	n := v.node()
	if n.parent < 0 {
		return v.doc.rootPath
	}
	parent := Value{v.doc, n.parent}
	if parent.Kind() == Array {
		i := 0
		for index := n.parent + 1; index < v.index; index = v.doc.nodes[index].next {
			i++
		}
		return parent.Path() + "[" + strconv.Itoa(i) + "]"
	}
	return JoinPath(parent.Path(), string(v.Key()))
}

// JoinPath appends a member's name to a path. A name that is not an identifier is quoted and
// truncated, so that every path is one readable line.
func JoinPath(path, name string) string {
	const maxName = 64
	plain := name != "" && len(name) <= maxName
	for i := 0; plain && i < len(name); i++ {
		plain = isNameChar(name[i])
	}
	switch {
	case !plain:
		return path + "[" + Quote(name) + "]"
	case path == "":
		return name
	default:
		return path + "." + name
	}
}

func isNameChar(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || c == '-'
}
