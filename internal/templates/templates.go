// Package templates has what is known of the message templates of an app: their fields, kinds and the
// values that they take. A replica asks WeChat for them and stores them in Redis as one JSON; everything
// that checks a message reads that through a [Cache].
package templates

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// The kinds of templates for subscribe messages, as WeChat numbers them.
const (
	OneTime  = 2 // one message for each acceptance
	LongTerm = 3
)

// Check says what enqueuing does about a message that does not fit its template.
type Check string

// The values of Check. "" is CheckOff.
const (
	CheckOff    Check = "off"
	CheckWarn   Check = "warn"   // the task is enqueued, with a warning
	CheckReject Check = "reject" // the task is refused
)

// Mode is the part of the configuration of an app that a producer's client needs.
type Mode struct {
	Check Check `json:"check,omitempty"`
	Fix   bool  `json:"fix,omitempty"` // a "thing" that is too long is cut
}

// Normal returns the mode with the one zero value for what does nothing.
func (m Mode) Normal() Mode {
	if !m.Checks() {
		m.Check = ""
	}
	return m
}

// Active reports whether enqueuing does something.
func (m Mode) Active() bool { return m.Fix || m.Checks() }

// Checks reports whether messages are compared with their templates.
func (m Mode) Checks() bool { return m.Check == CheckWarn || m.Check == CheckReject }

// A Source is one of the two lists of templates that WeChat keeps for an app.
type Source string

// The sources. An app may have templates of both.
const (
	Subscribe Source = "subscribe" // gettemplate: for subscribe messages of mini programs and official accounts
	Account   Source = "account"   // get_all_private_template: for template messages of official accounts
)

// Sources returns all sources.
func Sources() []Source { return []Source{Subscribe, Account} }

// Registry is what is known of the templates of an app. It is the JSON at [Key].
type Registry struct {
	Mode
	// FetchedAt is when WeChat last answered with a list.
	FetchedAt time.Time           `json:"fetched_at,omitzero"`
	Lists     map[Source]*Listing `json:"lists,omitempty"`
	Templates []Template          `json:"templates"`
	// Quiet counts the early fetches in a row that found no change; they become rarer.
	Quiet int `json:"quiet,omitempty"`
	// Until is when WeChat may be asked again at the earliest, except by an operator.
	Until time.Time `json:"until,omitzero"`

	byID map[templateID]*Template // of Templates
}

// templateID identifies a template: an id is unique in its list.
type templateID struct {
	source Source
	id     string
}

// Listing says how the last question for a list went.
type Listing struct {
	AskedAt   time.Time `json:"asked_at,omitzero"`
	FetchedAt time.Time `json:"fetched_at,omitzero"` // the last answer with a list
	// Refused is WeChat's code for an app that does not have this list (48001 …), until it has.
	Refused int    `json:"refused,omitempty"`
	Error   string `json:"error,omitempty"` // of the last question
}

// Template is a message template.
type Template struct {
	ID      string  `json:"id"`
	Source  Source  `json:"source"`
	Title   string  `json:"title"`
	Kind    int     `json:"kind,omitempty"` // OneTime or LongTerm; 0 is not known, or a template message
	Fields  []Field `json:"fields"`
	Content string  `json:"content,omitempty"`
	Example string  `json:"example,omitempty"`
}

// Field is a field of a template.
type Field struct {
	Name   string   `json:"name"`             // "thing2"
	Kind   string   `json:"kind,omitempty"`   // the kind of its values: "thing"; "" of an old template's field
	Label  string   `json:"label,omitempty"`  // "商品名称"
	Values []string `json:"values,omitempty"` // those that WeChat accepts; nil: any of the kind
}

// FieldKind returns the kind in a field's name: thing for thing2. It is "" for a name without a number
// at its end.
func FieldKind(name string) string {
	kind := strings.TrimRight(name, "0123456789")
	if kind == name {
		return ""
	}
	return kind
}

// errDecode means that the registry in Redis is not one.
var errDecode = errors.New("templates: the registry is not valid")

// Decode reads the JSON of a registry.
func Decode(text []byte) (*Registry, error) {
	r := new(Registry)
	if err := json.Unmarshal(text, r); err != nil {
		return nil, fmt.Errorf("%w: %w", errDecode, err)
	}
	r.index()
	return r, nil
}

// index prepares Template. It is called after each change of Templates.
func (r *Registry) index() {
	r.byID = make(map[templateID]*Template, len(r.Templates))
	for i := range r.Templates {
		t := &r.Templates[i]
		r.byID[templateID{t.Source, t.ID}] = t
	}
}

// Template returns a template of a source, or nil for one that is not known.
func (r *Registry) Template(source Source, id string) *Template {
	if r == nil {
		return nil
	}
	return r.byID[templateID{source, id}]
}

// Has reports whether a list is known, so that a template that is not in it is unknown to WeChat, too.
func (r *Registry) Has(source Source) bool {
	return r != nil && r.Lists[source] != nil && !r.Lists[source].FetchedAt.IsZero() && r.Lists[source].Refused == 0
}

// All returns all templates.
func (r *Registry) All() []Template {
	if r == nil {
		return nil
	}
	return r.Templates
}

// Of returns the templates of a source.
func (r *Registry) Of(source Source) []Template {
	var all []Template
	for _, t := range r.Templates {
		if t.Source == source {
			all = append(all, t)
		}
	}
	return all
}

// SetList replaces the templates of a source, and returns what changed in it: templates that were
// added or removed, and fields. Before the first list nothing has changed.
func (r *Registry) SetList(source Source, list []Template, now time.Time) []string {
	first := !r.Has(source)
	before := make(map[string]Template)
	for _, t := range r.Of(source) {
		before[t.ID] = t
	}
	var changes []string
	for i := range list {
		list[i].Source = source
		was, known := before[list[i].ID]
		delete(before, list[i].ID)
		if !known {
			changes = append(changes, fmt.Sprintf("%s is new", list[i].ID))
		} else if change := was.change(list[i]); change != "" {
			changes = append(changes, list[i].ID+": "+change)
		}
	}
	for id := range before {
		changes = append(changes, id+" is gone")
	}
	slices.Sort(changes)
	r.Templates = append(slices.DeleteFunc(r.Templates, func(t Template) bool { return t.Source == source }), list...)
	if r.Lists == nil {
		r.Lists = make(map[Source]*Listing)
	}
	r.Lists[source] = &Listing{AskedAt: now, FetchedAt: now}
	r.FetchedAt = now
	r.index()
	if first {
		return nil
	}
	return changes
}

// change describes how the fields of a template changed; "" if they did not.
func (t Template) change(now Template) string {
	var parts []string
	if t.Kind != now.Kind {
		parts = append(parts, fmt.Sprintf("kind %d became %d", t.Kind, now.Kind))
	}
	is := make(map[string]Field)
	for _, f := range now.Fields {
		is[f.Name] = f
	}
	for _, f := range t.Fields {
		after, stays := is[f.Name]
		delete(is, f.Name)
		switch {
		case !stays:
			parts = append(parts, f.Name+" is gone")
		case !slices.Equal(f.Values, after.Values):
			parts = append(parts, f.Name+" takes other values")
		case f.Label != after.Label:
			parts = append(parts, f.Name+" has another label")
		}
	}
	for _, f := range now.Fields {
		if _, added := is[f.Name]; added {
			parts = append(parts, f.Name+" is new")
		}
	}
	return strings.Join(parts, ", ")
}
