package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"reflect"

	"github.com/danielgtaylor/huma/v2"

	"github.com/wxcourier/wxcourier/internal/apikey"
	"github.com/wxcourier/wxcourier/internal/problem"
	"github.com/wxcourier/wxcourier/internal/strictjson"
)

const (
	maxJSONBody   = 1 << 20
	maxJSONDepth  = 8
	maxJSONValues = 50_000
)

// jsonBody is the part of an input that reads a body of JSON, whatever its Content-Type says: curl
// sends that of a form. decodeBody decodes it.
type jsonBody struct {
	text []byte
}

// Resolve implements huma.Resolver.
func (b *jsonBody) Resolve(ctx huma.Context) []error {
	stream := openBody(ctx)
	defer stream.release()
	limit := int64(maxJSONBody)
	if key := apikey.FromContext(ctx.Context()); key != nil && key.MaxBody > 0 {
		limit = min(limit, key.MaxBody)
	}
	var text bytes.Buffer
	if _, err := text.ReadFrom(io.LimitReader(stream, limit+1)); err != nil {
		return []error{bodyProblem(err)}
	}
	if int64(text.Len()) > limit {
		return []error{tooLarge(limit)}
	}
	b.text = bytes.TrimSpace(text.Bytes())
	return nil
}

// decodeBody decodes the body of a request as a T, by the schema of T. The problem names each
// fault, and contains no value.
func decodeBody[T any](a *API, b jsonBody) (v T, err error) {
	if len(b.text) == 0 {
		return v, problem.New(http.StatusBadRequest, "the body is empty; it must be JSON")
	}
	doc, fault := strictjson.Parse(b.text, "body", strictjson.Limits{Depth: maxJSONDepth, Values: maxJSONValues})
	if fault != nil {
		return v, problem.New(http.StatusBadRequest, "the body is not valid JSON", problem.Fault{Location: fault.Path, Message: fault.Problem})
	}
	doc.Release()
	var parsed any
	if err := json.Unmarshal(b.text, &parsed); err != nil { // a number beyond float64
		return v, problem.New(http.StatusUnprocessableEntity, "validation failed", problem.Fault{Location: "body", Message: "a number is out of range"})
	}
	schemas := a.huma.OpenAPI().Components.Schemas
	path, found := huma.NewPathBuffer(nil, 0), huma.ValidateResult{}
	path.Push("body")
	huma.Validate(schemas, schemaOf[T](a), path, huma.ModeWriteToServer, parsed, &found)
	if len(found.Errors) > 0 {
		return v, huma.NewError(http.StatusUnprocessableEntity, "validation failed", found.Errors...)
	}
	if err := json.Unmarshal(b.text, &v); err != nil {
		f := problem.Fault{Location: "body", Message: "is out of range"}
		if typ := (*json.UnmarshalTypeError)(nil); errors.As(err, &typ) {
			f.Location = strictjson.JoinPath("body", typ.Field)
		}
		return v, problem.New(http.StatusUnprocessableEntity, "validation failed", f)
	}
	return v, nil
}

// describeBody adds the body of a registered operation to the OpenAPI document. (huma would read
// the body of an operation that has one before.)
func describeBody[T any](a *API, id string, required bool, example any) {
	for _, path := range a.huma.OpenAPI().Paths {
		for _, op := range operationsOf(path) {
			if op.OperationID == id {
				op.RequestBody = &huma.RequestBody{Required: required, Content: map[string]*huma.MediaType{
					"application/json": {Schema: schemaOf[T](a), Example: example},
				}}
			}
		}
	}
}

// operationsOf returns the operations of a path by their methods.
func operationsOf(path *huma.PathItem) map[string]*huma.Operation {
	all := make(map[string]*huma.Operation)
	for method, op := range map[string]*huma.Operation{
		http.MethodGet: path.Get, http.MethodPost: path.Post, http.MethodPut: path.Put, http.MethodDelete: path.Delete,
	} {
		if op != nil {
			all[method] = op
		}
	}
	return all
}

// bodyErrors are the statuses of operations with a body.
func bodyErrors(more ...int) []int {
	return append(more, http.StatusBadRequest, http.StatusRequestTimeout, http.StatusRequestEntityTooLarge,
		http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity)
}

// schemaOf returns the schema of a T in the OpenAPI document.
func schemaOf[T any](a *API) *huma.Schema {
	return a.huma.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[T](), true, "")
}
