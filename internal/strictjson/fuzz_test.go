package strictjson_test

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"
	"unicode/utf8"

	"github.com/wxcourier/wxcourier/internal/strictjson"
)

var limits = strictjson.Limits{Depth: 32, Values: 40_000}

// FuzzEscapes: rewritten JSON is valid, has the same value, does not change when it is parsed
// again, and has the necessary escapes only.
func FuzzEscapes(f *testing.F) {
	for _, s := range []string{
		`{"a":"\u8ba2\u0026\ud83d\ude00\n\u0000\"\\\/"}`, `[1.50,-0,1e5,[],{},null,true]`, `"\ud83d"`, `{"\u0061":1,"a":2}`, ` "x" `,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		doc, fault := strictjson.Parse(text, "", limits)
		if fault != nil {
			if utf8.ValidString(fault.Path + fault.Problem) {
				return
			}
			t.Fatalf("%q", fault)
		}
		if !json.Valid(text) || !json.Valid(doc.Text()) {
			t.Fatalf("accepted, but not JSON: %q, %q", text, doc.Text())
		}
		if !sameJSON(t, text, doc.Text()) {
			t.Fatalf("given     %q\nrewritten %q", text, doc.Text())
		}
		again, fault := strictjson.Parse(doc.Text(), "", limits)
		if fault != nil || !bytes.Equal(again.Text(), doc.Text()) {
			t.Fatalf("once  %q\ntwice %q %v", doc.Text(), again.Text(), fault)
		}
		var compact bytes.Buffer
		e := json.NewEncoder(&compact)
		e.SetEscapeHTML(false)
		if err := e.Encode(json.RawMessage(doc.Text())); err != nil || len(doc.Text()) > compact.Len() {
			t.Fatalf("not compact: %q (%v)", doc.Text(), err)
		}
	})
}

func sameJSON(t *testing.T, a, b []byte) bool {
	t.Helper()
	return reflect.DeepEqual(decoded(t, a), decoded(t, b))
}

func decoded(t *testing.T, text []byte) any {
	t.Helper()
	var v any
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return v
}
