package strictjson

import (
	"bytes"
	"fmt"
	"slices"
)

// Limits bounds the cost of parsing a malicious text.
type Limits struct {
	Depth  int // maximum nesting of objects and arrays
	Values int // maximum number of values
}

// Fault says where a text is not valid, and why.
type Fault struct {
	Path    string // of the value at fault, from the root
	Problem string // contains no text of a value
}

// parser parses one text into a document.
type parser struct {
	*Document
	Limits
	src     []byte
	pos     int
	nesting int
}

// Parse parses src, which must be shorter than 2 GB. root is the first element of the paths
// in faults. The document does not refer to src. The caller may release it after use.
func Parse(src []byte, root string, limits Limits) (*Document, *Fault) {
	d, _ := documentPool.Get().(*Document)
	d.rootPath, d.text, d.nodes = root, slices.Grow(d.text[:0], len(src)), slices.Grow(d.nodes[:0], 24)
	p := parser{src: src, Limits: limits, Document: d}
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
func (p *parser) syntaxError(index int32, problem string) *Fault {
	f := &Fault{Path: p.rootPath}
	if index >= 0 {
		f.Path = Value{p.Document, index}.Path()
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
func (p *parser) parseValue(n node) *Fault {
	p.skipSpace()
	if len(p.nodes) >= p.Values {
		return p.syntaxError(n.parent, fmt.Sprintf("more than %d values", p.Values))
	}
	index := int32(len(p.nodes)) // #nosec G115 -- bounded by p.values
	n.start = int32(len(p.text)) // #nosec G115 -- texts are shorter than 2 GB
	p.nodes = append(p.nodes, n)

	var k Kind
	var fault *Fault
	switch c := p.peek(); {
	case c == '"':
		k = String
		p.nodes[index].escaped, fault = p.parseString(index)
	case c == '{':
		k, p.nodes[index].kind = Object, Object
		fault = p.parseObject(index)
	case c == '[':
		k, p.nodes[index].kind = Array, Array
		fault = p.parseArray(index)
	case c == '-' || c >= '0' && c <= '9':
		k = Number
		fault = p.parseNumber(index)
	default:
		k, fault = p.parseLiteral(index)
	}
	if fault != nil {
		return fault
	}
	done := &p.nodes[index]
	done.kind = k
	done.end = int32(len(p.text))   // #nosec G115 -- texts are shorter than 2 GB
	done.next = int32(len(p.nodes)) // #nosec G115 -- bounded by p.values
	return nil
}

func (p *parser) parseLiteral(index int32) (Kind, *Fault) {
	for _, l := range [...]struct {
		word string
		kind Kind
	}{{"true", Bool}, {"false", Bool}, {"null", Null}} {
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

func (p *parser) parseNumber(index int32) *Fault {
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
func (p *parser) openContainer(index int32) *Fault {
	if p.nesting++; p.nesting > p.Depth {
		return p.syntaxError(index, fmt.Sprintf("nested deeper than %d", p.Depth))
	}
	p.emit(1)
	return nil
}

func (p *parser) closeContainer() *Fault {
	p.nesting--
	p.emit(1)
	return nil
}

func (p *parser) parseArray(index int32) *Fault {
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

func (p *parser) parseObject(index int32) *Fault {
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
func (p *parser) parseKey(parent int32, seen *keySet) (node, *Fault) {
	if p.skipSpace(); p.peek() != '"' {
		return node{}, p.syntaxError(parent, "a member's name in double quotes is expected")
	}
	start := len(p.text) + 1
	if _, fault := p.parseString(parent); fault != nil {
		return node{}, fault
	}
	end := len(p.text) - 1
	if name := p.text[start:end]; seen.add(p, parent, name) {
		return node{}, &Fault{Path: JoinPath(Value{p.Document, parent}.Path(), string(name)), Problem: "given twice in one object: keep one"}
	}
	if p.skipSpace(); p.peek() != ':' {
		return node{}, p.syntaxError(parent, `":" is expected`)
	}
	p.emit(1)
	return node{parent: parent, keyStart: int32(start), keyEnd: int32(end)}, nil // #nosec G115 -- texts are shorter than 2 GB
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
