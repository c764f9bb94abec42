package tasks

import (
	"bytes"
	"fmt"
	"slices"
)

// bounds limits the cost of parsing a malicious text.
type bounds struct {
	depth  int // maximum nesting of objects and arrays
	values int // maximum number of values
}

// parser parses one JSON text (RFC 8259) into a document. It is stricter than
// encoding/json: it refuses invalid UTF-8, lone surrogates and duplicate keys in an object,
// since WeChat may read such texts differently.
type parser struct {
	*document
	bounds
	src     []byte
	pos     int
	nesting int
}

// parse parses src. root is the first element of the paths in faults. The caller may release
// the document after use.
func parse(src []byte, root string, b bounds) (*document, *FieldError) {
	d, _ := documentPool.Get().(*document)
	d.rootPath, d.text, d.nodes = root, slices.Grow(d.text[:0], len(src)), slices.Grow(d.nodes[:0], 24)
	p := parser{src: src, bounds: b, document: d}
	if fault := p.parseValue(node{parent: -1}); fault != nil {
		return nil, fault
	}
	if p.skipSpace(); p.pos < len(p.src) {
		return nil, p.syntaxError(-1, "data after the end of the JSON value: one task is one JSON object")
	}
	return d, nil
}

// syntaxError returns a fault at the current position, with the path of the node at index,
// or with the root path if index is negative.
func (p *parser) syntaxError(index int32, problem string) *FieldError {
	f := &FieldError{Path: p.rootPath}
	if index >= 0 {
		f.Path = value{p.document, index}.path()
	}
	f.Problem = fmt.Sprintf("not valid JSON at byte %d: %s", p.pos+1, problem)
	return f
}

func (p *parser) skipSpace() {
	for p.pos < len(p.src) {
		switch p.src[p.pos] {
		case ' ', '\t', '\n', '\r':
			p.pos++
		default:
			return
		}
	}
}

// peek returns the next byte, or 0 at the end of the text.
func (p *parser) peek() byte {
	if p.pos < len(p.src) {
		return p.src[p.pos]
	}
	return 0
}

// emit copies n bytes into the document's text.
func (p *parser) emit(n int) {
	p.text = append(p.text, p.src[p.pos:p.pos+n]...)
	p.pos += n
}

// parseValue parses one value. n is its node, with the parent and the key set.
func (p *parser) parseValue(n node) *FieldError {
	p.skipSpace()
	if len(p.nodes) >= p.values {
		return p.syntaxError(n.parent, fmt.Sprintf("more than %d values", p.values))
	}
	index := int32(len(p.nodes)) // #nosec G115 -- bounded by p.values
	n.start = int32(len(p.text)) // #nosec G115 -- texts are bounded by MaxLine
	p.nodes = append(p.nodes, n)

	var k jsonKind
	var fault *FieldError
	switch c := p.peek(); {
	case c == '"':
		k = kindString
		p.nodes[index].escaped, fault = p.parseString(index)
	case c == '{':
		k, p.nodes[index].kind = kindObject, kindObject
		fault = p.parseObject(index)
	case c == '[':
		k, p.nodes[index].kind = kindArray, kindArray
		fault = p.parseArray(index)
	case c == '-' || c >= '0' && c <= '9':
		k = kindNumber
		fault = p.parseNumber(index)
	default:
		k, fault = p.parseLiteral(index)
	}
	if fault != nil {
		return fault
	}
	done := &p.nodes[index]
	done.kind = k
	done.end = int32(len(p.text))   // #nosec G115 -- texts are bounded by MaxLine
	done.next = int32(len(p.nodes)) // #nosec G115 -- bounded by p.values
	return nil
}

func (p *parser) parseLiteral(index int32) (jsonKind, *FieldError) {
	for _, l := range [...]struct {
		word string
		kind jsonKind
	}{{"true", kindBool}, {"false", kindBool}, {"null", kindNull}} {
		if bytes.HasPrefix(p.src[p.pos:], []byte(l.word)) {
			p.emit(len(l.word))
			return l.kind, nil
		}
	}
	if p.pos == len(p.src) {
		return 0, p.syntaxError(index, "it ends where a value is expected")
	}
	return 0, p.syntaxError(index, "a value is expected: an object, an array, a string in double quotes, a number, true, false or null")
}

func (p *parser) parseNumber(index int32) *FieldError {
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
		return p.syntaxError(index, "a malformed number (no leading zeros, digits on both sides of the point)")
	}
	p.emit(i - p.pos)
	return nil
}

// openContainer and closeContainer parse a bracket or brace and keep the nesting depth.
func (p *parser) openContainer(index int32) *FieldError {
	if p.nesting++; p.nesting > p.depth {
		return p.syntaxError(index, fmt.Sprintf("nested deeper than %d", p.depth))
	}
	p.emit(1)
	return nil
}

func (p *parser) closeContainer() *FieldError {
	p.nesting--
	p.emit(1)
	return nil
}

func (p *parser) parseArray(index int32) *FieldError {
	if fault := p.openContainer(index); fault != nil {
		return fault
	}
	if p.skipSpace(); p.peek() == ']' {
		return p.closeContainer()
	}
	for {
		if fault := p.parseValue(node{parent: index}); fault != nil {
			return fault
		}
		switch p.skipSpace(); p.peek() {
		case ',':
			p.emit(1)
		case ']':
			return p.closeContainer()
		default:
			return p.syntaxError(index, `"," or "]" is expected`)
		}
	}
}

func (p *parser) parseObject(index int32) *FieldError {
	if fault := p.openContainer(index); fault != nil {
		return fault
	}
	if p.skipSpace(); p.peek() == '}' {
		return p.closeContainer()
	}
	var seen keySet
	for {
		n, fault := p.parseKey(index, &seen)
		if fault != nil {
			return fault
		}
		if fault = p.parseValue(n); fault != nil {
			return fault
		}
		switch p.skipSpace(); p.peek() {
		case ',':
			p.emit(1)
		case '}':
			return p.closeContainer()
		default:
			return p.syntaxError(index, `"," or "}" is expected`)
		}
	}
}

// parseKey parses the name of a member and the colon after it.
func (p *parser) parseKey(parent int32, seen *keySet) (node, *FieldError) {
	if p.skipSpace(); p.peek() != '"' {
		return node{}, p.syntaxError(parent, "a member's name in double quotes is expected")
	}
	start := len(p.text) + 1
	if _, fault := p.parseString(parent); fault != nil {
		return node{}, fault
	}
	end := len(p.text) - 1
	if name := p.text[start:end]; seen.add(p, parent, name) {
		return node{}, &FieldError{Path: join(value{p.document, parent}.path(), string(name)), Problem: "given twice in one object: keep one"}
	}
	if p.skipSpace(); p.peek() != ':' {
		return node{}, p.syntaxError(parent, `":" is expected`)
	}
	p.emit(1)
	return node{parent: parent, keyStart: int32(start), keyEnd: int32(end)}, nil // #nosec G115 -- texts are bounded by MaxLine
}

// keySet finds duplicate keys of an object. It searches the nodes of a small object, and
// makes a map for a large one.
type keySet struct {
	count int
	names map[string]struct{}
}

// add adds a key and reports whether the object has it already.
func (s *keySet) add(p *parser, parent int32, name []byte) bool {
	const few = 16
	s.count++
	if s.count <= few {
		for index := parent + 1; int(index) < len(p.nodes); index = p.nodes[index].next {
			if n := &p.nodes[index]; bytes.Equal(p.text[n.keyStart:n.keyEnd], name) {
				return true
			}
		}
		return false
	}
	if s.names == nil {
		s.names = make(map[string]struct{}, 2*few)
		for index := parent + 1; int(index) < len(p.nodes); index = p.nodes[index].next {
			s.names[string(p.text[p.nodes[index].keyStart:p.nodes[index].keyEnd])] = struct{}{}
		}
	}
	_, found := s.names[string(name)]
	s.names[string(name)] = struct{}{}
	return found
}
