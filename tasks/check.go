package tasks

import (
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/wxcourier/wxcourier/internal/strictjson"
	"github.com/wxcourier/wxcourier/internal/suggest"
	"github.com/wxcourier/wxcourier/tasks/internal/keyword"
)

// checker checks one task and collects its faults. Most of its methods take an object of
// the body and the name of a member, record the member's faults, and return the member if
// it is present and of the right JSON type.
type checker struct {
	strict bool      // the envelope comes from a producer: refuse unknown fields
	spec   *Spec     // nil for an unknown type
	from   time.Time // the earliest time at which the task can be sent
	faults []FieldError

	plaintext bool // a plaintext scheme
	anyLength bool // a thing of any length is taken: a Client, which knows whether it is cut, checks the task later
}

// maxFaults is the largest number of faults that are reported for one task.
const maxFaults = 50

// faultAt records a fault. Its arguments must not include the value at fault: see
// [FieldError.Problem].
func (c *checker) faultAt(path, format string, args ...any) {
	switch n := len(c.faults); {
	case n < maxFaults:
		c.faults = append(c.faults, FieldError{Path: path, Problem: fmt.Sprintf(format, args...)})
	case n == maxFaults:
		c.faults = append(c.faults, FieldError{Problem: "more faults follow: fix these first"})
	}
}

// fault records a fault at the path of v.
func (c *checker) fault(v strictjson.Value, format string, args ...any) {
	c.faultAt(v.Path(), format, args...)
}

// checkEnvelope checks the fields of the envelope except the body.
func (c *checker) checkEnvelope(e *Envelope) {
	switch {
	case e.Type == "":
		c.faultAt("type", "required, such as %q", TypeSubscribe)
	case c.spec == nil:
		c.faultAt("type", "%s is not a task type%s", strictjson.Quote(e.Type), suggestType(e.Type))
	}
	switch {
	case e.App == "":
		c.faultAt("app", "required: the app id, such as wx0123456789abcdef")
	case !ValidApp(e.App):
		c.faultAt("app", "not an app id: \"wx\" and 16 digits or small letters a-f are expected")
	}
	if e.ID != "" && !ValidID(e.ID) {
		c.faultAt("id", "%s", nameFault(e.ID, maxID))
	}
	if e.Batch != "" && !ValidBatch(e.Batch) {
		c.faultAt("batch", "%s", nameFault(e.Batch, maxBatch))
	}
	if e.Priority != "" && e.Priority != Urgent && e.Priority != Bulk {
		c.faultAt("priority", "%s is neither %q nor %q", strictjson.Quote(string(e.Priority)), Urgent, Bulk)
	}
	if c.plaintext = e.Plaintext && e.Type == TypeScheme; e.Plaintext && !c.plaintext && c.spec != nil {
		c.faultAt("plaintext", "only for %s: leave it out", TypeScheme)
	}
	c.checkTimes(e)
	if e.ProcessAt.After(c.from) {
		c.from = e.ProcessAt
	}
	if !e.NotAfter.IsZero() && e.NotAfter.Before(e.ProcessAt) {
		c.faultAt("not_after", "before process_at, so the task could never be sent: change one of them")
	}
}

// The range of years that a time of the envelope may have. The first year is earlier than
// any WeChat message, and later than the zero times of other languages: the years 1, 1601,
// 1900 and 1970.
const (
	firstYear = 2000
	lastYear  = 9998
	yearFault = "the year %d is out of range: leave the field out if there is no such time"
)

// checkTimes checks the years of the envelope's times.
func (c *checker) checkTimes(e *Envelope) {
	for _, f := range [...]struct {
		name string
		time time.Time
	}{{"process_at", e.ProcessAt}, {"not_after", e.NotAfter}} {
		if year := f.time.UTC().Year(); !f.time.IsZero() && (year < firstYear || year > lastYear) {
			c.faultAt(f.name, yearFault, year)
		}
	}
}

// suggestType returns "; did you mean …?" for a misspelt type, or "".
func suggestType(typ string) string {
	types := make([]string, 0, len(catalog))
	for i := range catalog {
		types = append(types, catalog[i].Type)
	}
	if meant, ok := suggest.Name(typ, types); ok {
		return fmt.Sprintf("; did you mean %q?", meant)
	}
	return ""
}

// checkBody parses the body and checks it by the rules of the task's type. It returns nil
// if the body is not JSON.
func (c *checker) checkBody(body []byte) *strictjson.Document {
	switch {
	case len(body) == 0 || string(body) == "null":
		c.faultAt("body", "required: the request body that WeChat's page shows")
		return nil
	case len(body) > MaxLine:
		c.faultAt("body", "%d bytes; at most %d are allowed", len(body), MaxLine)
		return nil
	}
	doc, fault := parseBody(body)
	if fault != nil {
		c.faults = append(c.faults, FieldError(*fault))
		return nil
	}
	hint := ""
	if doc.Root().Kind() == strictjson.String {
		hint = "send the object itself, not a string that holds it"
	}
	if c.want(doc.Root(), strictjson.Object, hint) && c.spec != nil {
		c.spec.check(c, doc.Root())
	}
	return doc
}

// want checks the JSON type of a present value. hint, where not empty, tells the producer
// how to fix it.
func (c *checker) want(v strictjson.Value, k strictjson.Kind, hint string) bool {
	got := v.Kind()
	if got == k {
		return true
	}
	if hint != "" {
		hint = ": " + hint
	}
	c.fault(v, "must be %s, not %s%s", k, got, hint)
	return false
}

// optional returns the member if it is present and of kind k. An object without values
// counts as absent, in every form in which SDKs write one: see [strictjson.Value.IsZero].
func (c *checker) optional(in strictjson.Value, name string, k strictjson.Kind) (strictjson.Value, bool) {
	v := in.Member(name)
	if !v.Present() || k == strictjson.Object && v.IsZero() {
		return strictjson.Value{}, false
	}
	return v, c.want(v, k, hintFor(k))
}

// required is like optional, but records a fault if the member is missing. desc describes
// the member.
func (c *checker) required(in strictjson.Value, name string, k strictjson.Kind, desc string) (strictjson.Value, bool) {
	v := in.Member(name)
	if !v.Present() {
		c.faultAt(strictjson.JoinPath(in.Path(), name), "required: %s", desc)
		return strictjson.Value{}, false
	}
	return v, c.want(v, k, hintFor(k))
}

// hintFor tells how to fix a value that should be of kind k.
func hintFor(k strictjson.Kind) string {
	switch k {
	case strictjson.String:
		return "put it in double quotes"
	case strictjson.Number, strictjson.Bool:
		return "write it without quotes"
	case strictjson.Absent, strictjson.Null, strictjson.Array, strictjson.Object:
	}
	return ""
}

// textRule limits a string. Its zero value allows every string.
type textRule struct {
	runes, bytes int             // maximum lengths; 0 is no limit
	allowed      func(rune) bool // reports whether a character is allowed; nil allows all
	allowedNames string          // names these characters in the message
	noQuery      string          // if not empty, "?" is refused with this advice
	noSlash      bool            // refuse a leading "/"
}

// optionalText checks an optional string.
func (c *checker) optionalText(in strictjson.Value, name string, rule textRule) {
	if v, ok := c.optional(in, name, strictjson.String); ok {
		c.applyRule(v, v.Unquoted(), rule)
	}
}

// requiredText checks a required string, which must not be empty.
func (c *checker) requiredText(in strictjson.Value, name string, rule textRule, desc string) {
	v, ok := c.required(in, name, strictjson.String, desc)
	if !ok {
		return
	}
	s := v.Unquoted()
	if len(s) == 0 {
		c.fault(v, "empty: %s", desc)
		return
	}
	c.applyRule(v, s, rule)
}

// applyRule checks the string s, which is the content of v.
func (c *checker) applyRule(v strictjson.Value, s []byte, rule textRule) {
	if n := utf8.RuneCount(s); rule.runes > 0 && n > rule.runes {
		c.fault(v, "%d characters; at most %d are allowed: shorten it", n, rule.runes)
	}
	if rule.bytes > 0 && len(s) > rule.bytes {
		c.fault(v, "%d bytes; at most %d are allowed: shorten it", len(s), rule.bytes)
	}
	if rule.noSlash && len(s) > 0 && s[0] == '/' {
		c.fault(v, `starts with "/": write pages/index/index, without it`)
	}
	for i, r := range string(s) {
		if rule.noQuery != "" && r == '?' {
			c.fault(v, `holds a "?": %s`, rule.noQuery)
			return
		}
		if rule.allowed != nil && !rule.allowed(r) {
			c.fault(v, "%s at character %d; only %s are allowed: encode it", keyword.DescribeRune(r), utf8.RuneCount(s[:i])+1, rule.allowedNames)
			return
		}
	}
}

// opaqueID checks an id that WeChat made: it must be present, not too long, and without
// spaces and control characters. Only WeChat knows whether the id exists.
func (c *checker) opaqueID(in strictjson.Value, name, desc string) {
	v, ok := c.required(in, name, strictjson.String, desc)
	if !ok {
		return
	}
	const maxRunes = 128
	s := v.Unquoted()
	switch n := utf8.RuneCount(s); {
	case n == 0:
		c.fault(v, "empty: %s", desc)
	case n > maxRunes:
		c.fault(v, "%d characters; at most %d are plausible: %s", n, maxRunes, desc)
	}
	for i, r := range string(s) {
		if unicode.IsSpace(r) || unicode.IsControl(r) {
			c.fault(v, "%s at character %d; an id has none: send it as WeChat gave it", keyword.DescribeRune(r), utf8.RuneCount(s[:i])+1)
			return
		}
	}
}

// oneOf checks an optional string that must be one of words. An empty string counts as
// absent.
func (c *checker) oneOf(in strictjson.Value, name string, words ...string) {
	v, ok := c.optional(in, name, strictjson.String)
	if !ok || v.IsZero() {
		return
	}
	s := v.Unquoted()
	for _, w := range words {
		if string(s) == w {
			return
		}
	}
	c.fault(v, "%s is none of %s", strictjson.Quote(string(s)), strings.Join(words, ", "))
}
