package api

import (
	"net/http"
	"reflect"

	"github.com/danielgtaylor/huma/v2"

	"github.com/wxcourier/wxcourier/tasks"
)

// envelopeFields describes the fields of tasks.Envelope in the OpenAPI document.
var envelopeFields = map[string]huma.Schema{
	"type":         {Description: "The type of the task, which names WeChat's endpoint."},
	"app":          {Description: "The app id of the mini program or official account.", Pattern: "^wx[0-9a-f]{16}$"},
	"id":           {Description: "The idempotency key, unique within its app: enqueuing it again sends nothing. Without one the gateway makes one, and repeating the request may send twice.", Pattern: "^[A-Za-z0-9._~-]{1,128}$"},
	"body":         {Description: "WeChat's own request body, field for field; at most 64 KB, of an image check 1,500 KB."},
	"priority":     {Description: "bulk tasks are sent when no urgent ones wait. Default urgent.", Enum: []any{string(tasks.Urgent), string(tasks.Bulk)}},
	"process_at":   {Description: "The earliest time at which it may be sent."},
	"not_after":    {Description: "The latest time at which it may be sent; after it, the outcome is expired."},
	"batch":        {Description: "Groups tasks for counting, listing and canceling.", Pattern: "^[A-Za-z0-9._~-]{1,64}$"},
	"ignore_hours": {Description: "Allows sending outside the hours of the app."},
	"plaintext":    {Description: "Makes the link of scheme:generate without a call (明文 URL Scheme): no quota, no expiry, and only for pages that are declared in the mini program's console."},
}

// envelopeSchema returns a reference to the schema of a task, which it adds to the document. It
// describes the fields that tasks.ParseEnvelope reads; huma does not use it to check a body.
func (a *API) envelopeSchema() *huma.Schema {
	schemas := a.huma.OpenAPI().Components.Schemas
	ref := schemas.Schema(reflect.TypeFor[tasks.Envelope](), true, "Envelope")
	s := schemas.SchemaFromRef(ref.Ref)
	for name, field := range envelopeFields {
		property := s.Properties[name]
		property.Description, property.Pattern = field.Description, field.Pattern
		if len(field.Enum) > 0 {
			property.Enum = field.Enum
		}
	}
	var types []any
	for _, typ := range tasks.Types() {
		types = append(types, typ)
	}
	s.Properties["type"].Enum = types
	s.Properties["body"] = &huma.Schema{Type: huma.TypeObject, Description: envelopeFields["body"].Description, AdditionalProperties: true}
	return ref
}

// describeEnqueue completes what the OpenAPI document says of POST /v1/tasks.
func (a *API) describeEnqueue() {
	op := a.huma.OpenAPI().Paths["/v1/tasks"].Post
	op.RequestBody = &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{"application/json": {
		Schema: a.envelopeSchema(),
		Example: map[string]any{
			"type": tasks.TypeSubscribe, "app": "wx0123456789abcdef", "id": "order-42-shipped",
			"body": map[string]any{
				"touser": "OPENID", "template_id": "TEMPLATE_ID", "page": "pages/index/index",
				"data": map[string]any{"thing1": map[string]any{"value": "订单已发货"}},
			},
		},
	}}}
	accepted := op.Responses["202"]
	accepted.Description = "The task is enqueued."
	op.Responses["200"] = &huma.Response{
		Description: "The id was known: nothing was enqueued, see already, done and differs. With wait also: the task has ended.",
		Headers:     accepted.Headers, Content: accepted.Content,
	}
}

// describeBatch completes what the OpenAPI document says of POST /v1/tasks:batch.
func (a *API) describeBatch() {
	doc := a.huma.OpenAPI()
	op := doc.Paths["/v1/tasks:batch"].Post
	op.RequestBody = &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{linesType: {
		Schema: &huma.Schema{Type: huma.TypeString, Description: "JSON Lines; each line is an Envelope."},
	}}}
	line := &huma.Schema{OneOf: []*huma.Schema{
		doc.Components.Schemas.Schema(reflect.TypeFor[batchLine](), true, ""),
		doc.Components.Schemas.Schema(reflect.TypeFor[batchFault](), true, ""),
		doc.Components.Schemas.Schema(reflect.TypeFor[batchEnd](), true, ""),
	}}
	doc.Components.Schemas.Map()["BatchResult"] = line
	lines := map[string]*huma.MediaType{linesType: {
		Schema: &huma.Schema{Type: huma.TypeString, Description: "JSON Lines; each line is a BatchResult, the last one the summary."},
	}}
	op.Responses["200"] = &huma.Response{Description: "Each line has been decided.", Content: lines}
	for status, text := range map[string]string{
		"400": "The body broke off; its lines up to there were decided.",
		"408": "The body stopped; its lines up to there were decided.",
		"413": "The body is too large; its lines up to there were decided.",
		"415": "The Content-Encoding is not known; no line was read.",
		"503": "Redis did not answer; the lines say which were enqueued. Repeat the batch.",
	} {
		op.Responses[status] = &huma.Response{Description: text, Content: lines}
	}
}

// imageResponses describes the answer with an image.
func imageResponses() map[string]*huma.Response {
	binary := &huma.MediaType{Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}}
	return map[string]*huma.Response{"200": {
		Description: http.StatusText(http.StatusOK),
		Content: map[string]*huma.MediaType{
			"image/png": binary, "image/jpeg": binary, "image/gif": binary, "application/octet-stream": binary,
		},
	}}
}
