package tasks

import (
	"bytes"
	"fmt"
	"slices"
)

// bounds keep a hostile text from costing more than its length.
type bounds struct {
	depth  int // of nested objects and arrays
	values int
}

// parser reads one JSON text (RFC 8259) into a document. It is stricter than
// encoding/json: no invalid UTF-8, no lone surrogates, no key twice in an object.
// WeChat's reading of such texts is unknown, so ours could differ from it.
type parser struct {
	*document
	bounds
	src  []byte
	pos  int
	deep int
}

// parse reads src; root is what the paths of its faults start with. The document may be
// released when it is done with.
func parse(src []byte, root string, b bounds) (*document, *FieldError) {
	d, _ := documents.Get().(*document)
	d.root, d.text, d.nodes = root, slices.Grow(d.text[:0], len(src)), slices.Grow(d.nodes[:0], 24)
	p := parser{src: src, bounds: b, document: d}
	if fault := p.value(node{parent: -1}); fault != nil {
		return nil, fault
	}
	if p.space(); p.pos < len(p.src) {
		return nil, p.fault(-1, "data after the end of the JSON value: one task is one JSON object")
	}
	return d, nil
}

// fault reports what is wrong at the parser's place, inside the node at.
func (p *parser) fault(at int32, problem string) *FieldError {
	f := &FieldError{Path: p.root}
	if at >= 0 {
		f.Path = value{p.document, at}.path()
	}
	f.Problem = fmt.Sprintf("not valid JSON at byte %d: %s", p.pos+1, problem)
	return f
}

func (p *parser) space() {
	for p.pos < len(p.src) {
		switch p.src[p.pos] {
		case ' ', '\t', '\n', '\r':
			p.pos++
		default:
			return
		}
	}
}

// peek is the next byte, 0 at the end of the text.
func (p *parser) peek() byte {
	if p.pos < len(p.src) {
		return p.src[p.pos]
	}
	return 0
}

// emit takes n bytes over into the text.
func (p *parser) emit(n int) {
	p.text = append(p.text, p.src[p.pos:p.pos+n]...)
	p.pos += n
}

// value reads one value; n says whose member or element it is.
func (p *parser) value(n node) *FieldError {
	p.space()
	if len(p.nodes) >= p.values {
		return p.fault(n.parent, fmt.Sprintf("more than %d values", p.values))
	}
	at := int32(len(p.nodes))    // #nosec G115 -- bounded by p.values
	n.start = int32(len(p.text)) // #nosec G115 -- texts are bounded by MaxLine
	p.nodes = append(p.nodes, n)

	var k kind
	var fault *FieldError
	switch c := p.peek(); {
	case c == '"':
		k = isText
		p.nodes[at].escaped, fault = p.string(at)
	case c == '{':
		k, p.nodes[at].kind = isObject, isObject
		fault = p.object(at)
	case c == '[':
		k, p.nodes[at].kind = isArray, isArray
		fault = p.array(at)
	case c == '-' || c >= '0' && c <= '9':
		k = isNumber
		fault = p.number(at)
	default:
		k, fault = p.literal(at)
	}
	if fault != nil {
		return fault
	}
	done := &p.nodes[at]
	done.kind = k
	done.end = int32(len(p.text))   // #nosec G115 -- texts are bounded by MaxLine
	done.next = int32(len(p.nodes)) // #nosec G115 -- bounded by p.values
	return nil
}

func (p *parser) literal(at int32) (kind, *FieldError) {
	for _, l := range [...]struct {
		word string
		kind kind
	}{{"true", isBool}, {"false", isBool}, {"null", isNull}} {
		if bytes.HasPrefix(p.src[p.pos:], []byte(l.word)) {
			p.emit(len(l.word))
			return l.kind, nil
		}
	}
	if p.pos == len(p.src) {
		return 0, p.fault(at, "it ends where a value is expected")
	}
	return 0, p.fault(at, "a value is expected: an object, an array, a string in double quotes, a number, true, false or null")
}

func (p *parser) number(at int32) *FieldError {
	i := p.pos
	digits := func() bool {
		from := i
		for i < len(p.src) && p.src[i] >= '0' && p.src[i] <= '9' {
			i++
		}
		return i > from
	}
	is := func(set string) bool { return i < len(p.src) && bytes.IndexByte([]byte(set), p.src[i]) >= 0 }
	if is("-") {
		i++
	}
	zero := is("0")
	first := i
	ok := digits() && (!zero || i == first+1)
	if ok && is(".") {
		i++
		ok = digits()
	}
	if ok && is("eE") {
		i++
		if is("+-") {
			i++
		}
		ok = digits()
	}
	if !ok {
		return p.fault(at, "a malformed number (no leading zeros, digits on both sides of the point)")
	}
	p.emit(i - p.pos)
	return nil
}

// enter and leave hold the depth.
func (p *parser) enter(at int32) *FieldError {
	if p.deep++; p.deep > p.depth {
		return p.fault(at, fmt.Sprintf("nested deeper than %d", p.depth))
	}
	p.emit(1)
	return nil
}

func (p *parser) leave() *FieldError {
	p.deep--
	p.emit(1)
	return nil
}

func (p *parser) array(at int32) *FieldError {
	if fault := p.enter(at); fault != nil {
		return fault
	}
	if p.space(); p.peek() == ']' {
		return p.leave()
	}
	for {
		if fault := p.value(node{parent: at}); fault != nil {
			return fault
		}
		switch p.space(); p.peek() {
		case ',':
			p.emit(1)
		case ']':
			return p.leave()
		default:
			return p.fault(at, `"," or "]" is expected`)
		}
	}
}

func (p *parser) object(at int32) *FieldError {
	if fault := p.enter(at); fault != nil {
		return fault
	}
	if p.space(); p.peek() == '}' {
		return p.leave()
	}
	var seen keySet
	for {
		n, fault := p.key(at, &seen)
		if fault != nil {
			return fault
		}
		if fault = p.value(n); fault != nil {
			return fault
		}
		switch p.space(); p.peek() {
		case ',':
			p.emit(1)
		case '}':
			return p.leave()
		default:
			return p.fault(at, `"," or "}" is expected`)
		}
	}
}

// key reads the name of a member, with its colon.
func (p *parser) key(parent int32, seen *keySet) (node, *FieldError) {
	if p.space(); p.peek() != '"' {
		return node{}, p.fault(parent, "a member's name in double quotes is expected")
	}
	start := len(p.text) + 1
	if _, fault := p.string(parent); fault != nil {
		return node{}, fault
	}
	end := len(p.text) - 1
	if name := p.text[start:end]; seen.twice(p, parent, name) {
		return node{}, &FieldError{Path: join(value{p.document, parent}.path(), string(name)), Problem: "given twice in one object: keep one"}
	}
	if p.space(); p.peek() != ':' {
		return node{}, p.fault(parent, `":" is expected`)
	}
	p.emit(1)
	return node{parent: parent, keyStart: int32(start), keyEnd: int32(end)}, nil // #nosec G115 -- texts are bounded by MaxLine
}

// keySet finds a key that an object holds twice. It looks through the few keys of a
// usual object, and makes a map for a large one.
type keySet struct {
	count int
	names map[string]struct{}
}

func (s *keySet) twice(p *parser, parent int32, name []byte) bool {
	const few = 16
	s.count++
	if s.count <= few {
		for at := parent + 1; int(at) < len(p.nodes); at = p.nodes[at].next {
			if n := &p.nodes[at]; bytes.Equal(p.text[n.keyStart:n.keyEnd], name) {
				return true
			}
		}
		return false
	}
	if s.names == nil {
		s.names = make(map[string]struct{}, 2*few)
		for at := parent + 1; int(at) < len(p.nodes); at = p.nodes[at].next {
			s.names[string(p.text[p.nodes[at].keyStart:p.nodes[at].keyEnd])] = struct{}{}
		}
	}
	_, found := s.names[string(name)]
	s.names[string(name)] = struct{}{}
	return found
}
