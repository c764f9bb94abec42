package campaign

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"github.com/wxcourier/wxcourier/internal/strictjson"
	"github.com/wxcourier/wxcourier/internal/suggest"
)

const (
	maxTemplate = 64 << 10 // bytes, the limit of a body
	maxDepth    = 32       // of a body
)

// Template is a message with places for the columns of a table: an envelope in YAML, with
// {{column}} in its strings. [ParseTemplate] reads one.
type Template struct {
	// App, Type and Batch are those of the envelope; "" where it has none.
	App, Type, Batch string
	// Digest identifies the content: two templates that differ only in comments and spaces have
	// the same.
	Digest string

	fields   map[string]bool // the fields that the envelope has, besides those above
	segments []segment       // the fields as JSON, each with a comma before it
	places   []*place        // of the segments, in their order
}

// segment is a part of the template's JSON: a text, or a place for a value.
type segment struct {
	text  string
	place *place // nil: the text
}

// templateFields are the fields of an envelope that a template may have.
func templateFields() []string {
	return []string{"app", "type", "batch", "body", "priority", "process_at", "not_after", "ignore_hours", "plaintext"}
}

// TemplateError lists all mistakes of a template. Each is one line.
type TemplateError struct{ Problems []string }

// Error joins the mistakes.
func (e *TemplateError) Error() string { return strings.Join(e.Problems, "\n") }

// ParseTemplate reads a template. The error is a *[TemplateError].
func ParseTemplate(text []byte) (*Template, error) {
	if len(text) > maxTemplate {
		return nil, &TemplateError{[]string{fmt.Sprintf("the template has %d bytes; at most %d are allowed", len(text), maxTemplate)}}
	}
	root, err := parseYAML(text)
	if err != nil {
		return nil, err
	}
	w := &templateWriter{t: &Template{fields: make(map[string]bool)}}
	w.envelope(root)
	w.flush()
	if !w.t.fields["body"] && len(w.problems) == 0 {
		w.problems = append(w.problems, "body: required: the request body that WeChat's page shows")
	}
	if len(w.problems) > 0 {
		return nil, &TemplateError{w.problems}
	}
	w.t.Digest = w.t.digest()
	return w.t, nil
}

// Columns returns the names of the columns that the template uses, each once, in their order.
func (t *Template) Columns() []string {
	var names []string
	for _, p := range t.places {
		if !slices.Contains(names, p.column) {
			names = append(names, p.column)
		}
	}
	return names
}

func (t *Template) digest() string {
	sum := sha256.New()
	for _, s := range t.segments {
		text := s.text
		if s.place != nil {
			text = s.place.text
		}
		_, _ = fmt.Fprintf(sum, "%d:%s", len(text), text)
	}
	return hex.EncodeToString(sum.Sum(nil)[:8])
}

// parseYAML parses a text of one YAML document. The text may be an upload: a panic of the parser, of
// which earlier versions had some, is a fault of the text.
func parseYAML(text []byte) (root ast.Node, err error) {
	defer func() {
		if recover() != nil {
			root, err = nil, &TemplateError{[]string{"not valid YAML"}}
		}
	}()
	tree, err := parser.ParseBytes(text, 0)
	if err != nil {
		return nil, &TemplateError{[]string{syntaxProblem(text, err)}}
	}
	for _, doc := range tree.Docs {
		if doc.Body == nil || doc.Body.Type() == ast.CommentType {
			continue
		}
		if root != nil {
			return nil, &TemplateError{[]string{fmt.Sprintf("line %d: a second YAML document: only one is allowed", lineOf(doc.Body))}}
		}
		root = doc.Body
	}
	if root == nil {
		return nil, &TemplateError{[]string{"the template is empty"}}
	}
	return root, nil
}

// syntaxProblem describes invalid YAML, without the lines that the parser quotes.
func syntaxProblem(text []byte, err error) string {
	var located interface {
		GetMessage() string
		GetToken() *token.Token
	}
	if !errors.As(err, &located) {
		return "not valid YAML"
	}
	problem := "not valid YAML: " + located.GetMessage()
	if at := located.GetToken(); at != nil && at.Position != nil {
		problem = fmt.Sprintf("line %d: %s", at.Position.Line, problem)
	}
	for i, line := range strings.Split(string(text), "\n") {
		if unquotedPlace.MatchString(line) {
			return fmt.Sprintf(`line %d: a value that begins with {{ must be in quotes: "{{…}}"`, i+1)
		}
	}
	return problem
}

// unquotedPlace matches a line whose value YAML takes for a mapping.
var unquotedPlace = regexp.MustCompile(`(?:^\s*-|:)\s+\{\{`)

func lineOf(n ast.Node) int {
	if t := n.GetToken(); t != nil && t.Position != nil {
		return t.Position.Line
	}
	return 0
}

// templateWriter writes the JSON of a template's syntax tree.
type templateWriter struct {
	t        *Template
	text     []byte // not yet in a segment
	problems []string
}

func (w *templateWriter) fault(n ast.Node, path, format string, args ...any) {
	const most = 20
	if len(w.problems) < most {
		w.problems = append(w.problems, fmt.Sprintf("line %d: %s: %s", lineOf(n), path, fmt.Sprintf(format, args...)))
	}
}

func (w *templateWriter) flush() {
	if len(w.text) > 0 {
		w.t.segments = append(w.t.segments, segment{text: string(w.text)})
		w.text = nil
	}
}

// envelope writes the fields of the envelope.
func (w *templateWriter) envelope(root ast.Node) {
	members, ok := membersOf(root)
	if !ok {
		w.problems = append(w.problems, "the template must be an envelope: keys and values such as body: …")
		return
	}
	for _, m := range members {
		name := keyOf(m)
		switch {
		case name == "id":
			w.fault(m, name, "made from the batch and the receiver, so that each person gets one message: leave it out")
		case !slices.Contains(templateFields(), name):
			hint := "the fields are " + strings.Join(templateFields(), ", ")
			if meant, ok := suggest.Name(name, templateFields()); ok {
				hint = fmt.Sprintf("did you mean %q?", meant)
			}
			w.fault(m, strictjson.Quote(name), "not a field of an envelope: %s", hint)
		case name == "app" || name == "type" || name == "batch":
			w.fixed(m, name)
		default:
			w.t.fields[name] = true
			w.text = strictjson.AppendQuote(append(w.text, ','), name)
			w.text = append(w.text, ':')
			w.value(m.Value, name, 1)
		}
	}
}

// fixed reads a field that is the same for all rows.
func (w *templateWriter) fixed(m *ast.MappingValueNode, name string) {
	text, ok := stringOf(m.Value)
	switch {
	case !ok || text == "":
		w.fault(m, name, "must be a text")
	case strings.Contains(text, "{{"):
		w.fault(m, name, "the same for all rows: columns are not allowed here")
	}
	*map[string]*string{"app": &w.t.App, "type": &w.t.Type, "batch": &w.t.Batch}[name] = text
}

// value writes a value.
func (w *templateWriter) value(n ast.Node, path string, depth int) {
	if depth > maxDepth {
		w.fault(n, path, "nested too deeply")
		return
	}
	if text, ok := stringOf(n); ok {
		w.string(n, text, path)
		return
	}
	if members, ok := membersOf(n); ok {
		w.object(members, path, depth)
		return
	}
	switch n := n.(type) {
	case *ast.SequenceNode:
		w.text = append(w.text, '[')
		for i, element := range n.Values {
			if i > 0 {
				w.text = append(w.text, ',')
			}
			w.value(element, fmt.Sprintf("%s[%d]", path, i), depth+1)
		}
		w.text = append(w.text, ']')
	case *ast.NullNode:
		w.text = append(w.text, "null"...)
	case *ast.BoolNode, *ast.IntegerNode, *ast.FloatNode:
		w.number(n, path)
	default:
		w.fault(n, path, "anchors, aliases, merge keys and tags are not allowed: write the value itself")
	}
}

// number writes a number or a truth value as it is written.
func (w *templateWriter) number(n ast.Node, path string) {
	text := n.GetToken().Value
	if _, isBool := n.(*ast.BoolNode); !isBool && !jsonNumber(text) {
		w.fault(n, path, "not a number of JSON: put it in quotes if it is a text")
		return
	}
	w.text = append(w.text, text...)
}

func (w *templateWriter) object(members []*ast.MappingValueNode, path string, depth int) {
	w.text = append(w.text, '{')
	for i, m := range members {
		if i > 0 {
			w.text = append(w.text, ',')
		}
		name := keyOf(m)
		if strings.Contains(name, "{{") {
			w.fault(m, path, "columns are allowed in values, not in names")
		}
		w.text = append(strictjson.AppendQuote(w.text, name), ':')
		w.value(m.Value, strictjson.JoinPath(path, name), depth+1)
	}
	w.text = append(w.text, '}')
}

// string writes a string, with its places.
func (w *templateWriter) string(n ast.Node, text, path string) {
	quoted := func(s string) []byte { q := strictjson.AppendQuote(nil, s); return q[1 : len(q)-1] }
	before, rest, found := strings.Cut(text, "{{")
	if found && before == "" && strings.HasSuffix(rest, "}}") && strings.Count(rest, "}}") == 1 {
		if p := w.place(n, strings.TrimSuffix(rest, "}}"), path); p != nil && p.isNumber() {
			p.bare = true
			w.add(p)
			return
		}
	}
	w.text = append(append(w.text, '"'), quoted(before)...)
	for found {
		var inside string
		if inside, rest, found = strings.Cut(rest, "}}"); !found {
			w.fault(n, path, "{{ without }}")
			break
		}
		if p := w.place(n, inside, path); p != nil {
			w.add(p)
		}
		before, rest, found = strings.Cut(rest, "{{")
		w.text = append(w.text, quoted(before)...)
	}
	w.text = append(w.text, '"')
}

func (w *templateWriter) add(p *place) {
	w.flush()
	w.t.segments = append(w.t.segments, segment{place: p})
	w.t.places = append(w.t.places, p)
}

// place parses the inside of {{ and }}. It returns nil after a fault.
func (w *templateWriter) place(n ast.Node, inside, path string) *place {
	p, err := parsePlace(inside)
	if err != nil {
		if line := fmt.Sprintf("line %d: %s: %v", lineOf(n), path, err); !slices.Contains(w.problems, line) {
			w.problems = append(w.problems, line)
		}
		return nil
	}
	p.path = path
	return p
}

// membersOf returns the members of a mapping.
func membersOf(n ast.Node) ([]*ast.MappingValueNode, bool) {
	switch n := n.(type) {
	case *ast.MappingNode:
		return n.Values, true
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{n}, true
	}
	return nil, false
}

func keyOf(m *ast.MappingValueNode) string {
	if s, ok := m.Key.(*ast.StringNode); ok {
		return s.Value
	}
	return m.Key.GetToken().Value
}

// stringOf returns the text of a string. That of a block has no line break at its end.
func stringOf(n ast.Node) (string, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return strings.TrimRight(n.Value.Value, "\n"), true
	}
	return "", false
}
