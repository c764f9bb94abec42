package callback

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Limits of a push. WeChat's own have a depth of 4 and some dozen values.
const (
	maxDepth = 16
	maxNodes = 10_000
)

// node is a value of a push, the same for XML and JSON: an entry of a JSON array is a node with the name
// of the array, as XML repeats an element.
type node struct {
	name     string
	text     []byte // of a node without children
	children []*node
}

// named returns the children with a name, in any case: WeChat writes MsgID and MsgId, AppId and appid.
func (n *node) named(name string) []*node {
	if n == nil {
		return nil
	}
	var all []*node
	for _, c := range n.children {
		if strings.EqualFold(c.name, name) {
			all = append(all, c)
		}
	}
	return all
}

// child returns the first child with a name, nil if there is none.
func (n *node) child(name string) *node {
	if all := n.named(name); len(all) > 0 {
		return all[0]
	}
	return nil
}

// field returns the text of the first child with a name, without spaces around it.
func (n *node) field(name string) string {
	if c := n.child(name); c != nil {
		return strings.TrimSpace(string(c.text))
	}
	return ""
}

// parseNode parses a body. Its error is ErrFormat with the reason, and no part of the body.
func parseNode(f Format, body []byte) (*node, error) {
	body = bytes.TrimPrefix(body, []byte("\uFEFF"))
	b := &builder{root: &node{}}
	b.open = []*node{b.root}
	parse := b.xml
	if f == JSON {
		parse = b.json
	}
	if err := parse(body); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if len(b.root.children) == 0 {
		return nil, ErrFormat
	}
	return b.root.children[0], nil
}

// builder makes a tree of nodes.
type builder struct {
	root  *node
	open  []*node // from root to the node that is being read
	nodes int
	deep  int // arrays that are being read
}

var (
	errLarge  = errors.New("it has too many values")
	errDeep   = errors.New("it is nested too deeply")
	errBroken = errors.New("it is cut, or not well-formed")
	errType   = errors.New("it has a document type, which is never read")
)

func (b *builder) top() *node { return b.open[len(b.open)-1] }

// begin adds a node and opens it.
func (b *builder) begin(name string) error {
	if b.nodes++; b.nodes > maxNodes {
		return errLarge
	}
	if len(b.open) > maxDepth {
		return errDeep
	}
	n := &node{name: name}
	b.top().children = append(b.top().children, n)
	b.open = append(b.open, n)
	return nil
}

func (b *builder) end() { b.open = b.open[:len(b.open)-1] }

// xml reads a document with one root element. Entities other than the five of XML itself are an error,
// as is a document type, which could define some.
func (b *builder) xml(body []byte) error {
	d := xml.NewDecoder(bytes.NewReader(body))
	for {
		token, err := d.RawToken()
		if errors.Is(err, io.EOF) && len(b.open) == 1 {
			return nil
		}
		if err != nil {
			return errBroken // its text quotes the document
		}
		switch t := token.(type) {
		case xml.StartElement:
			if len(b.open) == 1 && len(b.root.children) > 0 {
				return errBroken
			}
			if err := b.begin(t.Name.Local); err != nil {
				return err
			}
		case xml.EndElement:
			if len(b.open) == 1 || t.Name.Local != b.top().name {
				return errBroken
			}
			b.end()
		case xml.CharData:
			if len(b.open) == 1 {
				if len(bytes.TrimSpace(t)) > 0 {
					return errBroken
				}
				continue
			}
			b.top().text = append(b.top().text, t...)
		case xml.Directive:
			return errType
		}
	}
}

// json reads an object.
func (b *builder) json(body []byte) error {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	if err := b.jsonValue(d, ""); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errBroken
	}
	return nil
}

// jsonValue reads a value under a name.
func (b *builder) jsonValue(d *json.Decoder, name string) error {
	token, err := d.Token()
	if err != nil {
		return errBroken
	}
	if token == json.Delim('[') {
		return b.jsonArray(d, name)
	}
	if err := b.begin(name); err != nil {
		return err
	}
	defer b.end()
	switch t := token.(type) {
	case json.Delim: // "{"
		return b.jsonObject(d)
	case string:
		b.top().text = []byte(t)
	case json.Number:
		b.top().text = []byte(t.String())
	case bool:
		b.top().text = strconv.AppendBool(nil, t)
	}
	return nil
}

func (b *builder) jsonObject(d *json.Decoder) error {
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return errBroken
		}
		name, _ := key.(string)
		if err := b.jsonValue(d, name); err != nil {
			return err
		}
	}
	return closing(d)
}

// jsonArray reads the entries of an array as values with its name. An array in an array is flat.
func (b *builder) jsonArray(d *json.Decoder, name string) error {
	if b.nodes++; b.nodes > maxNodes {
		return errLarge // also of empty arrays in arrays
	}
	if b.deep++; b.deep > maxDepth {
		return errDeep
	}
	defer func() { b.deep-- }()
	for d.More() {
		if err := b.jsonValue(d, name); err != nil {
			return err
		}
	}
	return closing(d)
}

// closing reads the end of an array or an object.
func closing(d *json.Decoder) error {
	if _, err := d.Token(); err != nil {
		return errBroken
	}
	return nil
}
