package api_test

import (
	"encoding/json"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/tasks"
)

// openAPI is the part of the document that the tests look at.
type openAPI struct {
	OpenAPI    string
	Paths      map[string]map[string]documented
	Components struct {
		Schemas         map[string]schema
		SecuritySchemes map[string]struct{ Type, Scheme string }
	}
}

type documented struct {
	OperationID string
	Summary     string
	Security    []map[string][]string
	RequestBody struct {
		Content map[string]struct {
			Schema struct {
				Ref  string `json:"$ref"`
				Type string
			}
			Example json.RawMessage
		}
	}
	Responses map[string]struct {
		Description string
		Content     map[string]json.RawMessage
	}
}

type schema struct {
	Properties map[string]struct {
		Description string
		Enum        []string
	}
	Required []string
	OneOf    []json.RawMessage
}

func TestOpenAPIDocument(t *testing.T) {
	_, rdb := redistest.Mini(t)
	f := newFixture(t, rdb)
	doc := decode[openAPI](f, f.do(http.MethodGet, "/openapi.json", "").body)
	if !strings.HasPrefix(doc.OpenAPI, "3.1") || doc.Components.SecuritySchemes["key"].Scheme != "bearer" {
		t.Errorf("%s, %+v", doc.OpenAPI, doc.Components.SecuritySchemes)
	}
	for path, methods := range doc.Paths {
		for method, op := range methods {
			if op.OperationID == "" || op.Summary == "" || len(op.Security) != 1 || len(op.Security[0]["key"]) != 1 {
				t.Errorf("%s %s: %+v", method, path, op)
			}
			for _, status := range []string{"401", "403", "503"} {
				if op.Responses[status].Description == "" {
					t.Errorf("%s %s does not describe %s", method, path, status)
				}
			}
		}
	}
	enqueue := doc.Paths["/v1/tasks"]["post"]
	if r := enqueue.Responses; r["200"].Content == nil || r["202"].Content == nil || r["422"].Content["application/problem+json"] == nil {
		t.Errorf("POST /v1/tasks: %+v", r)
	}
	if doc.Components.Schemas["BatchResult"].OneOf == nil || doc.Paths["/v1/tasks:batch"]["post"].RequestBody.Content["application/x-ndjson"].Schema.Type != "string" {
		t.Error("the batch is not described")
	}
	body := enqueue.RequestBody.Content["application/json"]
	if !strings.HasSuffix(body.Schema.Ref, "/Envelope") {
		t.Errorf("the body: %+v", body)
	}
	if e, err := tasks.ParseEnvelope(body.Example); err != nil || e.Type == "" {
		t.Errorf("the example: %v", err)
	}
	if a := f.do(http.MethodPost, "/v1/tasks", string(body.Example)); a.status != http.StatusAccepted {
		t.Errorf("the example: %d %s", a.status, a.body)
	}
}

// TestEnvelopeSchema: the schema has all fields of a task, each with a description.
func TestEnvelopeSchema(t *testing.T) {
	_, rdb := redistest.Mini(t)
	f := newFixture(t, rdb)
	s := decode[openAPI](f, f.do(http.MethodGet, "/openapi.json", "").body).Components.Schemas["Envelope"]
	fields, shown := reflect.TypeFor[tasks.Envelope](), 0
	for i := range fields.NumField() {
		name, _, _ := strings.Cut(fields.Field(i).Tag.Get("json"), ",")
		if name == "-" { // not part of the JSON
			continue
		}
		shown++
		if s.Properties[name].Description == "" {
			t.Errorf("%s has no description", name)
		}
	}
	slices.Sort(s.Required)
	if len(s.Properties) != shown || !slices.Equal(s.Required, []string{"app", "body", "type"}) {
		t.Errorf("%d properties, required %v", len(s.Properties), s.Required)
	}
	if !slices.Equal(s.Properties["type"].Enum, tasks.Types()) {
		t.Errorf("types %v", s.Properties["type"].Enum)
	}
}
