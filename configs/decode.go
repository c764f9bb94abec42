package configs

import (
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"github.com/wxcourier/wxcourier/internal/suggest"
	"github.com/wxcourier/wxcourier/wechat"
)

// decoder fills a Config by reflection over the yaml tags of its parts. It works on the syntax tree,
// so that it can report all problems at once with their lines.
type decoder struct {
	from     map[string]origin // of each key that was set
	anchors  map[string]ast.Node
	problems []Problem
	reading  string   // the file of apps_dir that is being decoded; "": the main file
	paths    []string // of the files and folders that were read, or could not be read
}

// origin is the place where a key was set; the zero value means that it has its default.
type origin struct {
	file     string // of apps_dir; "": the main file
	line     int
	variable string
}

func newDecoder() *decoder {
	return &decoder{from: make(map[string]origin), anchors: make(map[string]ast.Node)}
}

// file decodes a YAML text into cfg.
func (d *decoder) file(text []byte, cfg *Config) {
	d.document(text, reflect.ValueOf(cfg).Elem(), "")
}

// document decodes a YAML text into v.
func (d *decoder) document(text []byte, v reflect.Value, key string) {
	tree, err := parser.ParseBytes(text, 0)
	if err != nil {
		d.syntax(err)
		return
	}
	seen := false
	for _, doc := range tree.Docs {
		if doc.Body == nil {
			continue
		}
		if seen {
			d.problems = append(d.problems, Problem{File: d.reading, Line: line(doc.Body), Message: "a second YAML document: only one is allowed"})
			return
		}
		seen = true
		d.value(v, doc.Body, key)
	}
}

// syntax reports invalid YAML. It does not use the parser's full message, which quotes the lines
// around the error and may contain secrets.
func (d *decoder) syntax(err error) {
	var located interface {
		GetMessage() string
		GetToken() *token.Token
	}
	p := Problem{File: d.reading, Message: "not valid YAML"}
	if errors.As(err, &located) {
		p.Message += ": " + located.GetMessage()
		if at := located.GetToken(); at != nil && at.Position != nil {
			p.Line = at.Position.Line
		}
	}
	d.problems = append(d.problems, p)
}

func line(n ast.Node) int {
	if t := n.GetToken(); t != nil && t.Position != nil {
		return t.Position.Line
	}
	return 0
}

// value decodes a node into v. A null leaves v unchanged.
func (d *decoder) value(v reflect.Value, n ast.Node, key string) {
	n = d.resolve(n)
	if n == nil || n.Type() == ast.NullType {
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		d.fields(v, n, key)
	case reflect.Map:
		d.entries(v, n, key)
	case reflect.Slice:
		d.items(v, n, key)
	default:
		d.scalar(v, n, key)
	}
}

// resolve returns the node behind anchors, aliases and tags.
func (d *decoder) resolve(n ast.Node) ast.Node {
	switch node := n.(type) {
	case *ast.AnchorNode:
		d.anchors[node.Name.String()] = node.Value
		return d.resolve(node.Value)
	case *ast.AliasNode:
		return d.anchors[node.Value.String()] // already resolved: the anchor comes first
	case *ast.TagNode:
		return d.resolve(node.Value)
	}
	return n
}

// members returns the entries of a mapping.
func (d *decoder) members(n ast.Node, key string) []*ast.MappingValueNode {
	switch node := n.(type) {
	case *ast.MappingNode:
		return node.Values
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{node}
	}
	d.from[key] = origin{file: d.reading, line: line(n)}
	d.problem(key, "expected keys and values, each on its own line")
	return nil
}

func (d *decoder) fields(v reflect.Value, n ast.Node, key string) {
	fields := fieldsOf(v.Type())
	for _, member := range d.members(n, key) {
		name := keyText(member.Key)
		path := join(key, name)
		d.from[path] = origin{file: d.reading, line: line(member.Key)}
		index, known := fields.index[name]
		if !known {
			d.problem(path, "%s", unknown(name, fields.names))
			continue
		}
		d.value(v.Field(index), member.Value, path)
		if node := d.resolve(member.Value); node != nil && node.Type() != ast.NullType {
			d.validatePresent(v, name, path)
		}
	}
}

// presentValidator is implemented by parts of the configuration in which a value is invalid only
// when its key is present, such as 0 for a limit: without the key it means the default.
type presentValidator interface {
	ValidatePresent(key string) error
}

// validatePresent validates a key that was set, unless it has a problem already.
func (d *decoder) validatePresent(v reflect.Value, name, key string) {
	part, ok := v.Interface().(presentValidator)
	if !ok || d.hasProblem(key) {
		return
	}
	if err := part.ValidatePresent(name); err != nil {
		d.problem(key, "%v", err)
	}
}

func (d *decoder) entries(v reflect.Value, n ast.Node, key string) {
	for _, member := range d.members(n, key) {
		path := join(key, keyText(member.Key))
		d.from[path] = origin{file: d.reading, line: line(member.Key)}
		entry := reflect.New(v.Type().Elem()).Elem()
		d.value(entry, member.Value, path)
		if v.IsNil() {
			v.Set(reflect.MakeMap(v.Type()))
		}
		v.SetMapIndex(reflect.ValueOf(keyText(member.Key)), entry)
	}
}

func (d *decoder) items(v reflect.Value, n ast.Node, key string) {
	list, ok := n.(*ast.SequenceNode)
	if !ok {
		d.problem(key, `expected a list: ["a", "b"], or one "- " line per entry`)
		return
	}
	items := reflect.MakeSlice(v.Type(), len(list.Values), len(list.Values))
	for i, item := range list.Values {
		path := fmt.Sprintf("%s[%d]", key, i)
		d.from[path] = origin{file: d.reading, line: line(item)}
		d.value(items.Index(i), item, path)
	}
	if len(list.Values) == 0 {
		items = reflect.Zero(v.Type())
	}
	v.Set(items)
}

func (d *decoder) scalar(v reflect.Value, n ast.Node, key string) {
	var text string
	switch node := n.(type) {
	case *ast.StringNode:
		text = node.Value
	case *ast.LiteralNode:
		text = node.Value.Value
	case ast.ScalarNode:
		text = node.GetToken().Value
	default:
		d.problem(key, "expected a single value, not a list or a mapping")
		return
	}
	if err := set(v, text); err != nil {
		d.problem(key, "%v", err)
	}
}

// set parses the text of a scalar, from the file or the environment, into v.
func set(v reflect.Value, text string) error {
	if v.Type() == reflect.TypeFor[time.Duration]() {
		value, err := time.ParseDuration(text)
		if err != nil {
			return fmt.Errorf("%q is not a duration; write a number with its unit, such as 500ms, 15s or 24h", text)
		}
		v.SetInt(int64(value))
		return nil
	}
	switch v.Kind() {
	case reflect.String:
		if v.Type() == reflect.TypeFor[wechat.Secret]() {
			text = strings.TrimRight(text, "\r\n") // a YAML block scalar ends with a newline
		}
		v.SetString(text)
	case reflect.Bool:
		if text != "true" && text != "false" {
			return fmt.Errorf("%q is neither true nor false", text)
		}
		v.SetBool(text == "true")
	case reflect.Int, reflect.Int64:
		value, err := strconv.ParseInt(text, 10, v.Type().Bits())
		if err != nil {
			return fmt.Errorf("%q is not a whole number", text)
		}
		v.SetInt(value)
	case reflect.Float64:
		value, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return fmt.Errorf("%q is not a number", text)
		}
		v.SetFloat(value)
	default:
		return fmt.Errorf("a value of type %v cannot be configured", v.Type())
	}
	return nil
}

func keyText(n ast.MapKeyNode) string {
	if s, ok := n.(*ast.StringNode); ok {
		return s.Value
	}
	return n.GetToken().Value
}

func join(key, name string) string {
	if key == "" {
		return name
	}
	return key + "." + name
}

// unknown returns the problem text for an unknown key, with the nearest known one.
func unknown(name string, names []string) string {
	if meant, ok := suggest.Name(name, names); ok {
		return fmt.Sprintf("unknown key; did you mean %q?", meant)
	}
	return "unknown key; the keys are " + strings.Join(names, ", ")
}

// fieldSet is the keys of a struct, with the index of each field.
type fieldSet struct {
	names []string
	index map[string]int
}

func fieldsOf(t reflect.Type) fieldSet {
	set := fieldSet{index: make(map[string]int)}
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("yaml"), ",")
		if name == "" || name == "-" {
			continue
		}
		set.names = append(set.names, name)
		set.index[name] = i
	}
	return set
}
