package tasks

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/wxcourier/wxcourier/internal/strictjson"
	"github.com/wxcourier/wxcourier/internal/templates"
	"github.com/wxcourier/wxcourier/tasks/internal/keyword"
)

// comparison is a body's comparison with the template of its app that it fills.
type comparison struct {
	registry *templates.Registry // of the app; nil: nothing is compared
	fixed    []string            // what was changed; see [Envelope.Fixed]
	warnings []string            // what does not fit, where the app's mode is to warn
	outdated bool                // the list of templates may be: the message does not fit it
}

// PrepareFor is [Envelope.Prepare] for a caller that knows the templates of the app: it fixes and
// compares the body as a [Client] does when it enqueues. warning describes what does not fit, where the
// app's mode is to warn; see [Receipt.Warning]. A nil registry is none.
func (e *Envelope) PrepareFor(registry *templates.Registry, now time.Time) (warning string, err error) {
	m := marking{comparison: comparison{registry: registry}}
	err = e.prepare(checker{from: now}, &m)
	return m.warning(), err
}

// FillsTemplateOf reports whether messages of a type fill templates of a list.
func FillsTemplateOf(typ string, list templates.Source) bool {
	row := lookup(typ)
	return row != nil && row.list != "" && row.list == list
}

// warning joins the warnings.
func (m *comparison) warning() string { return strings.Join(m.warnings, "; ") }

// compare compares a body with its template. Faults are the task's, or warnings, by the app's mode.
func (m *marking) compare(c *checker, body strictjson.Value) {
	if m.registry == nil || !m.registry.Checks() || c.spec == nil || c.spec.list == "" || !m.registry.Has(c.spec.list) {
		return
	}
	t := m.registry.Template(c.spec.list, memberText(body, c.spec.Template))
	if t == nil {
		m.outdated = true
		m.warnings = append(m.warnings, fmt.Sprintf(
			"body.%s: not in the app's list of templates, so the message is not checked against it: compare it with `wxcourier templates`", c.spec.Template))
		return
	}
	found := templateChecker{template: t}
	found.data(body.Member("data"))
	m.outdated = len(found.faults) > 0
	if m.registry.Check == templates.CheckReject {
		c.faults = append(c.faults, found.faults...)
	} else {
		m.warn(found.faults)
	}
	m.warn(found.tolerated)
}

func (m *comparison) warn(faults []FieldError) {
	for _, f := range faults {
		m.warnings = append(m.warnings, f.String())
	}
}

// templateChecker collects what does not fit a template. tolerated is what WeChat ignores.
type templateChecker struct {
	checker
	template  *templates.Template
	tolerated []FieldError
}

// data compares the data of a message with the fields of the template.
func (c *templateChecker) data(data strictjson.Value) {
	const path = "body.data"
	for i := range c.template.Fields {
		f := &c.template.Fields[i]
		if !data.Member(f.Name).Present() {
			c.faultAt(strictjson.JoinPath(path, f.Name), `required by the template%s: add it, as {"value":"…"}`, label(f))
		}
	}
	if data.Kind() != strictjson.Object {
		return
	}
	for entry := range data.Elements() {
		name := string(entry.Key())
		if f := c.field(name); f != nil {
			c.value(f, entry)
		} else if c.template.Source == templates.Account && (name == "first" || name == "remark") {
			// WeChat took both out of all templates in 2023, and ignores them.
			c.tolerated = append(c.tolerated, FieldError{Path: entry.Path(), Problem: "not in the template, and not shown: leave it out"})
		} else {
			c.fault(entry, "not in the template%s", c.meant(name))
		}
	}
}

func (c *templateChecker) field(name string) *templates.Field {
	for i := range c.template.Fields {
		if f := &c.template.Fields[i]; f.Name == name {
			return f
		}
	}
	return nil
}

// meant says which field of the template a name may stand for: the one with its number, or else all.
func (c *templateChecker) meant(name string) string {
	number := strings.TrimPrefix(name, templates.FieldKind(name))
	names := make([]string, 0, len(c.template.Fields))
	for i := range c.template.Fields {
		f := &c.template.Fields[i]
		if names = append(names, f.Name); f.Name == templates.FieldKind(f.Name)+number {
			return fmt.Sprintf(": the template has %s%s", f.Name, label(f))
		}
	}
	if len(names) == 0 {
		return ", which has no fields: leave it out"
	}
	return ", which has " + strings.Join(names, ", ") + ": leave it out, or rename it"
}

// label returns the label of a field for messages: " (商品名称)".
func label(f *templates.Field) string {
	if f.Label == "" {
		return ""
	}
	return " (" + f.Label + ")"
}

// value compares the value of a field.
func (c *templateChecker) value(f *templates.Field, entry strictjson.Value) {
	v := entry
	if entry.Kind() == strictjson.Object {
		v = entry.Member("value")
	}
	if v.Kind() != strictjson.String {
		return // a number, or a fault that was found without the template
	}
	text := v.Unquoted()
	if len(f.Values) > 0 && !slices.Contains(f.Values, string(text)) {
		c.fault(v, "none of the values that the template%s takes: %s", label(f), some(f.Values))
		return
	}
	if c.template.Source == templates.Account && keyword.Known(f.Kind) { // others were checked by their names
		if problem := keyword.Problem([]byte(f.Name), text); problem != "" {
			c.fault(v, "%s", problem)
		}
	}
}

// some joins the first values.
func some(values []string) string {
	const most = 12
	if len(values) > most {
		return strings.Join(values[:most], ", ") + " …"
	}
	return strings.Join(values, ", ")
}

// thing is the kind of field that may be cut, and maxThing the longest value of it.
const (
	thing    = "thing"
	maxThing = 20 // characters
)

// fix cuts what is too long in a body, where the app's mode allows that, and returns the body. It takes
// the digest of the original, by which a repeated call is recognized.
func (m *marking) fix(e *Envelope, spec *Spec) []byte {
	if m.registry == nil || !m.registry.Fix || spec == nil || spec.list == "" {
		return e.Body
	}
	doc, fault := parseBody(e.Body)
	if fault != nil || doc.Root().Kind() != strictjson.Object {
		return e.Body
	}
	defer doc.Release()
	template := m.registry.Template(spec.list, memberText(doc.Root(), spec.Template))
	var (
		fixed []byte
		from  int
	)
	for entry := range doc.Root().Member("data").Elements() {
		name := string(entry.Key())
		v := entry.Member("value")
		if v.Kind() != strictjson.String || templates.FieldKind(name) != thing || !bound(spec, template, name) {
			continue
		}
		text := string(v.Unquoted())
		short, was := cut(text), utf8.RuneCountInString(text)
		if short == text {
			continue
		}
		start, end := v.Span()
		fixed = strictjson.AppendQuote(append(fixed, doc.Text()[from:start]...), short)
		from = end
		m.fixed = append(m.fixed, fmt.Sprintf("data.%s.value: cut from %d to %d characters", name, was, utf8.RuneCountInString(short)))
	}
	if len(m.fixed) == 0 {
		return e.Body
	}
	m.digest = e.digestOf(spec, doc.Root())
	return append(fixed, doc.Text()[from:]...)
}

// bound reports whether WeChat's rule of a field's kind applies to it. The fields of old templates for
// template messages may have any names.
func bound(spec *Spec, t *templates.Template, name string) bool {
	if spec.list == templates.Subscribe {
		return true
	}
	return t != nil && slices.ContainsFunc(t.Fields, func(f templates.Field) bool { return f.Name == name })
}

// cut cuts a text to the length of a thing, with an ellipsis at its end. It does not cut a character
// from the marks and joiners that belong to it.
func cut(text string) string {
	runes := []rune(text)
	if len(runes) <= maxThing {
		return text
	}
	const joiner = '\u200d'
	n := maxThing - 1
	for n > 0 && (belongs(runes[n]) || runes[n-1] == joiner) {
		n--
	}
	return strings.TrimRightFunc(string(runes[:n]), unicode.IsSpace) + "…"
}

// belongs reports whether a rune changes the character before it.
func belongs(r rune) bool {
	const firstTone, lastTone = 0x1f3fb, 0x1f3ff // of the skin of an emoji
	return unicode.Is(unicode.M, r) || r == '\u200d' || r >= firstTone && r <= lastTone
}
