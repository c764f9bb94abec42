package tasks

import (
	"bytes"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"
)

const testApp = "wx0123456789abcdef"

// constructors has a function per type that makes a task from the JSON of its payload.
var constructors = map[string]func(t *testing.T, body string) (*asynq.Task, error){
	TypeSubscribe:     typed(NewSubscribeTask),
	TypeTemplate:      typed(NewTemplateTask),
	TypeBizSubscribe:  typed(NewBizSubscribeTask),
	TypeCustom:        typed(NewCustomTask),
	TypeUniform:       typed(NewUniformTask),
	TypeScheme:        typed(NewSchemeTask),
	TypeURLLink:       typed(NewURLLinkTask),
	TypeShortLink:     typed(NewShortLinkTask),
	TypeNFCScheme:     typed(NewNFCSchemeTask),
	TypeUnlimitedCode: typed(NewUnlimitedCodeTask),
	TypeCode:          typed(NewCodeTask),
	TypeQRCode:        typed(NewQRCodeTask),
	TypeTextCheck:     typed(NewTextCheckTask),
	TypeImageCheck:    typed(NewImageCheckTask),
	TypeMediaCheck:    typed(NewMediaCheckTask),
}

func typed[P any](construct func(string, P, ...Option) (*asynq.Task, error)) func(*testing.T, string) (*asynq.Task, error) {
	return func(t *testing.T, body string) (*asynq.Task, error) {
		t.Helper()
		var p P
		d := json.NewDecoder(strings.NewReader(body))
		d.DisallowUnknownFields()
		if err := d.Decode(&p); err != nil {
			t.Fatalf("the payload type lacks a field of the example: %v", err)
		}
		return construct(testApp, p, ID("order-42"))
	}
}

// TestCatalog checks every row of the catalog.
func TestCatalog(t *testing.T) {
	seen := map[string]bool{}
	for _, row := range Catalog() {
		t.Run(row.Type, func(t *testing.T) {
			if seen[row.Type] || seen[row.Path] {
				t.Errorf("type or path %s occurs twice", row.Path)
			}
			seen[row.Type], seen[row.Path] = true, true
			if !isTypeName(row.Type) {
				t.Error("the type is not kind:api")
			}
			if !strings.HasPrefix(row.Path, "/") {
				t.Errorf("path %q", row.Path)
			}
			if !strings.HasPrefix(row.Doc, "https://developers.weixin.qq.com/") || !strings.HasSuffix(row.Doc, ".html") {
				t.Errorf("doc %q", row.Doc)
			}
			if !slices.Contains([]string{"", "touser", "openid"}, row.Receiver) {
				t.Errorf("receiver %q", row.Receiver)
			}
			if row.Kind.String() == "none" || row.Repeat.String() == "none" {
				t.Errorf("kind %v, repeat %v", row.Kind, row.Repeat)
			}
			if (row.Kind == Message) != (row.Repeat != Always) {
				t.Errorf("a %v is safe to repeat: %v", row.Kind, row.Repeat)
			}
			if got, ok := Lookup(row.Type); !ok || got.Path != row.Path {
				t.Errorf("Lookup: %v %v", got, ok)
			}
			checkExample(t, row)
		})
	}
	if len(seen) != 2*len(constructors) {
		t.Errorf("%d rows, %d constructors", len(seen)/2, len(constructors))
	}
	if _, ok := Lookup("send:nothing"); ok {
		t.Error("Lookup found an unknown type")
	}
}

// checkExample prepares the row's example, and makes a task of it with the constructor.
func checkExample(t *testing.T, row Spec) {
	t.Helper()
	e := Envelope{Type: row.Type, App: testApp, ID: "order-42", Body: json.RawMessage(row.Example)}
	if err := e.Prepare(time.Now()); err != nil {
		t.Fatalf("example: %v", err)
	}
	if (row.Receiver == "") == (e.Receiver() != "") {
		t.Errorf("the example's receiver is %q", e.Receiver())
	}
	if (row.Template == "") == (e.TemplateID() != "") {
		t.Errorf("the example's template is %q", e.TemplateID())
	}
	task, err := constructors[row.Type](t, row.Example)
	if err != nil {
		t.Fatalf("constructor: %v", err)
	}
	if task.Type() != row.Type {
		t.Errorf("constructor made a %s", task.Type())
	}
	made, err := DecodePayload(task.Payload())
	if err != nil {
		t.Fatal(err)
	}
	if !sameJSON(t, made.Body, e.Body) {
		t.Errorf("constructor made the body\n%s\nand the example is\n%s", made.Body, e.Body)
	}
}

// sameJSON compares two JSON texts by value, numbers by their digits.
func sameJSON(t testing.TB, a, b []byte) bool {
	t.Helper()
	return reflect.DeepEqual(decoded(t, a), decoded(t, b))
}

func decoded(t testing.TB, text []byte) any {
	t.Helper()
	var v any
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return v
}

// TestRepeatOf: a permanent short link uses up a pool for life, so it is not repeated.
func TestRepeatOf(t *testing.T) {
	for _, tt := range []struct {
		typ, body string
		want      Repeat
	}{
		{TypeShortLink, `{"page_url":"p","is_permanent":true}`, Never},
		{TypeShortLink, `{"page_url":"p","is_permanent":false}`, Always},
		{TypeShortLink, `{"page_url":"p","is_permanent":null}`, Always},
		{TypeShortLink, `{"page_url":"p"}`, Always},
		{TypeShortLink, `{"page_url":`, Never},
		{TypeURLLink, `{"is_permanent":true}`, Always},
		{TypeTemplate, `{}`, Deduped},
		{TypeMediaCheck, `{}`, Always},
	} {
		spec, _ := Lookup(tt.typ)
		if got := spec.RepeatOf([]byte(tt.body)); got != tt.want {
			t.Errorf("%s %s: %s, want %s", tt.typ, tt.body, got, tt.want)
		}
	}
}

func TestCatalogIsACopy(t *testing.T) {
	Catalog()[0].Path = "/changed"
	if Catalog()[0].Path == "/changed" {
		t.Error("the catalog was changed from outside")
	}
}

func TestRepeatWindow(t *testing.T) {
	for repeat, want := range map[Repeat]time.Duration{Never: 0, Deduped: 10 * time.Minute, Always: 0} {
		if got := repeat.Window(); got != want {
			t.Errorf("%s: %v, want %v", repeat, got, want)
		}
	}
}
