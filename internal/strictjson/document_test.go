package strictjson_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/wxcourier/wxcourier/internal/strictjson"
)

func parse(t *testing.T, text string) *strictjson.Document {
	t.Helper()
	doc, fault := strictjson.Parse([]byte(text), "body", limits)
	if fault != nil {
		t.Fatalf("%s: %+v", text, fault)
	}
	return doc
}

// TestPositions: each value knows its path and its position in the text.
func TestPositions(t *testing.T) {
	doc := parse(t, ` { "a" : [ 1 , { "b c" : "x\u002f\n" } ] , "d":null}`)
	if want := `{"a":[1,{"b c":"x/\n"}],"d":null}`; string(doc.Text()) != want {
		t.Errorf("the text is %s, want %s", doc.Text(), want)
	}
	var got []string
	var walk func(v strictjson.Value)
	walk = func(v strictjson.Value) {
		start, end := v.Span()
		if string(doc.Text()[start:end]) != string(v.Raw()) {
			t.Errorf("%s: %d to %d is not %s", v.Path(), start, end, v.Raw())
		}
		got = append(got, fmt.Sprintf("%s %s", v.Path(), v.Kind()))
		if k := v.Kind(); k == strictjson.Object || k == strictjson.Array {
			for element := range v.Elements() {
				walk(element)
			}
		}
	}
	walk(doc.Root())
	want := []string{
		"body an object", "body.a an array", "body.a[0] a number", "body.a[1] an object", `body.a[1]["b c"] a string`, "body.d null",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	for element := range doc.Root().Member("a").Elements() {
		if v := element.Member("b c"); v.Kind() == strictjson.String && string(v.Unquoted()) != "x/\n" {
			t.Errorf("the string is %q", v.Unquoted())
		}
	}
}

// TestAbsentValues: a missing member is a value that is not present; a null is not either.
func TestAbsentValues(t *testing.T) {
	root := parse(t, `{"null":null,"zero":{"a":"","b":[0,1],"c":[],"d":{"e":false}},"full":{"a":["x"]}}`).Root()
	for name, want := range map[string]strictjson.Kind{"none": strictjson.Absent, "null": strictjson.Null} {
		if v := root.Member(name); v.Kind() != want || v.Present() || !v.IsZero() {
			t.Errorf("%s: %s, present %v, zero %v", name, v.Kind(), v.Present(), v.IsZero())
		}
	}
	if v := root.Member("none").Member("deeper"); v.Kind() != strictjson.Absent {
		t.Errorf("a member of nothing is %s", v.Kind())
	}
	for element := range root.Member("none").Elements() {
		t.Errorf("an element of nothing: %s", element.Kind())
	}
	zero := root.Member("zero")
	for name, want := range map[string]bool{"a": true, "b": false, "c": true, "d": true} {
		if got := zero.Member(name).IsZero(); got != want {
			t.Errorf("%s: zero is %v", zero.Member(name).Path(), got)
		}
	}
	if zero.IsEmpty() || !zero.Member("c").IsEmpty() || root.Member("full").IsZero() {
		t.Error("IsEmpty or IsZero")
	}
}

func TestFaults(t *testing.T) {
	for _, tt := range []struct{ text, path, problem string }{
		{`{"a":{"b":1,"b":2}}`, "body.a.b", "given twice"},
		{`{"a":["\ud83d"]}`, "body.a[0]", "half of a surrogate pair"},
		{"{\"a\":\"\xff\"}", "body.a", "at byte 7: a byte that is not UTF-8"},
		{`{"a":1} x`, "body", "data after the end"},
		{`{"a":01}`, "body.a", "a malformed number"},
		{strings.Repeat("[", 33), "body" + strings.Repeat("[0]", 32), "nested deeper than 32"},
		{"[" + strings.Repeat("0,", 40_000) + "0]", "body", "more than 40000 values"},
	} {
		doc, fault := strictjson.Parse([]byte(tt.text), "body", limits)
		if doc != nil || fault == nil || fault.Path != tt.path || !strings.Contains(fault.Problem, tt.problem) {
			t.Errorf("%.40s: %+v", tt.text, fault)
		}
	}
}

// TestKeepText: the text of a released document is not reused if it was kept.
func TestKeepText(t *testing.T) {
	doc := parse(t, `{"a":"kept"}`)
	text := doc.Text()
	doc.KeepText()
	doc.Release()
	for range 100 {
		other := parse(t, `{"b":"other"}`)
		other.Release()
	}
	if string(text) != `{"a":"kept"}` {
		t.Errorf("the text became %s", text)
	}
}

func TestAppendQuote(t *testing.T) {
	for _, s := range []string{"", "plain", "订单 🎉", "\"\\\b\f\n\r\t\x00\x1f", "<&>\u2028\x7f"} {
		quoted := strictjson.AppendQuote([]byte("x"), s)
		var back string
		if err := json.Unmarshal(quoted[1:], &back); err != nil || back != s {
			t.Errorf("%q became %s: %q, %v", s, quoted, back, err)
		}
	}
	if got := strictjson.AppendQuote(nil, "<é\n"); string(got) != `"<é\n"` {
		t.Errorf("unnecessary escapes: %s", got)
	}
	if got := strictjson.AppendQuote(nil, "\xe8\xae"); !strings.Contains(string(got), "\uFFFD") {
		t.Errorf("bytes that are not UTF-8: %s", got)
	}
}
