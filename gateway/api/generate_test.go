package api_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// canary is in each value of a generated request that is not valid: it must not be in a problem, nor in the log.
const canary = "zQcanary7"

// generator makes requests from an OpenAPI document.
type generator struct {
	doc *document
	rng *rand.Rand
}

// operation is one operation of the document.
type operation struct {
	method, path string
	spec         object
}

// operations returns all operations, in a fixed order.
func (d *document) operations() (all []operation) {
	paths, _ := d.object["paths"].(object)
	for _, path := range slices.Sorted(maps.Keys(paths)) {
		item, _ := paths[path].(object)
		for _, method := range slices.Sorted(maps.Keys(item)) {
			spec, _ := item[method].(object)
			all = append(all, operation{strings.ToUpper(method), path, spec})
		}
	}
	return all
}

func (g *generator) one(n int) bool { return g.rng.IntN(n) == 0 }

func pick[T any](g *generator, all ...T) T { return all[g.rng.IntN(len(all))] }

// request makes a request for an operation: mostly a valid one, with a few faults.
func (g *generator) request(op operation) *http.Request {
	method, path, query := op.method, op.path, url.Values{}
	header := http.Header{}
	parameters, _ := op.spec["parameters"].([]any)
	for _, p := range parameters {
		parameter, _ := p.(object)
		name, _ := parameter["name"].(string)
		schema, _ := parameter["schema"].(object)
		switch parameter["in"] {
		case "path":
			path = strings.Replace(path, "{"+name+"}", url.PathEscape(g.segment(name, schema)), 1)
		case "query":
			for g.one(3) {
				query.Add(name, g.parameter(name, schema))
			}
		case "header":
			if g.one(3) {
				header.Set(name, g.parameter(name, schema))
			}
		}
	}
	if g.one(30) {
		query.Add("unknown"+fmt.Sprint(g.rng.IntN(9)), g.junk())
	}
	if g.one(15) {
		method = pick(g, http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodPatch, http.MethodOptions, "TRACE", "QUERY")
	}
	body := g.body(op.spec, header)
	g.headers(header)
	target := &url.URL{Path: "/", RawQuery: query.Encode()}
	if g.one(40) {
		target.RawQuery = pick(g, "%zz="+canary, "a=%ff%fe", ";;;="+canary, strings.Repeat("app=x&", 300), "limit=1;cursor="+canary)
	}
	target.Path, _ = url.PathUnescape(path)
	target.RawPath = path
	r := &http.Request{
		Method: method, URL: target, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: header, Host: "127.0.0.1",
		Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body)), RequestURI: target.RequestURI(),
	}
	if g.one(10) {
		r.ContentLength = -1
	}
	return r
}

// segment returns a value for a part of the path. It is not empty, nor made of points only: the
// mux redirects such paths.
func (g *generator) segment(name string, schema object) string {
	if s := g.parameter(name, schema); strings.Trim(s, "./") != "" {
		return s
	}
	return "1"
}

// parameter returns a value for a parameter as text.
func (g *generator) parameter(name string, schema object) string {
	schema = g.doc.resolve(schema)
	if items, ok := schema["items"].(object); ok {
		schema = g.doc.resolve(items)
	}
	switch {
	case name == "wait": // the others are slow
		return pick(g, "0", "1ms", "-1s", "61s", "1h", canary)
	case g.one(8):
		return g.junk()
	}
	v := g.value(schema, 0)
	if s, ok := v.(string); ok {
		return s
	}
	text, _ := json.Marshal(v)
	return string(text)
}

// junk returns a text that is hardly valid anywhere.
func (g *generator) junk() string {
	return pick(g,
		canary, canary+"\xff\xfe", canary+"\x00", "'\"<script>"+canary, strings.Repeat(canary, 5000), canary+"\u202e\u2028", canary+"\r\n\r\nX: y",
		"99999999999999999999999999", "-1", "1e999", "0x10", "NaN", "null", "[]", "{}", "../../"+canary, "%2e%2e", "*", "😀"+canary, " ", canary+"/"+canary,
	)
}

// value returns a valid value of a schema, mostly.
func (g *generator) value(schema object, depth int) any {
	schema = g.doc.resolve(schema)
	if depth > 0 && g.one(25) {
		return g.wrong(depth)
	}
	if enum, ok := schema["enum"].([]any); ok {
		return pick(g, enum...)
	}
	if examples, ok := schema["examples"].([]any); ok && g.one(2) {
		return pick(g, examples...)
	}
	types, _ := schema["type"].([]any)
	if len(types) == 0 {
		types = []any{schema["type"]}
	}
	switch pick(g, types...) {
	case "string":
		return g.text(schema)
	case "integer", "number":
		return pick[any](g, 0, 1, 2, g.rng.IntN(1000), 40001)
	case "boolean":
		return g.one(2)
	case "array":
		items, _ := schema["items"].(object)
		all := []any{}
		for range g.rng.IntN(4) {
			all = append(all, g.value(items, depth+1))
		}
		return all
	case "object":
		return g.fields(schema, depth)
	}
	return nil
}

// fields returns an object.
func (g *generator) fields(schema object, depth int) any {
	required, _ := schema["required"].([]any)
	properties, _ := schema["properties"].(object)
	all := object{}
	for name, property := range properties {
		if slices.Contains(required, any(name)) && !g.one(30) || g.one(3) {
			all[name] = g.value(property.(object), depth+1)
		}
	}
	if g.one(30) {
		all["unknown"] = g.wrong(depth)
	}
	return all
}

// text returns a valid string of a schema: of names that exist, so that the operations meet.
func (g *generator) text(schema object) string {
	switch schema["pattern"] {
	case "^wx[0-9a-f]{16}$":
		return pick(g, app, app, app, other, alien)
	case "^[A-Za-z0-9._~-]{1,128}$":
		return fmt.Sprint(g.rng.IntN(30))
	case "^[A-Za-z0-9._~-]{1,64}$": // a batch: there are few
		return fmt.Sprint(g.rng.IntN(5))
	case "^[A-Za-z0-9_-]{1,64}$", "^[A-Za-z0-9_-]{1,128}$": // an openid, a template
		return fmt.Sprint("o", g.rng.IntN(5))
	case "^[0-9a-f]{64}$":
		return strings.Repeat("0f", 32)
	}
	if schema["format"] == "date-time" {
		return time.Now().Add(time.Duration(g.rng.IntN(7200)-3600) * time.Second).Format(time.RFC3339)
	}
	return pick(g, "", "1", "*", "send:custom", "template:T1", "text", "30m", "2026-12-01T00:00:00Z")
}

// wrong returns a value that is hardly valid anywhere.
func (g *generator) wrong(depth int) any {
	if depth > 6 {
		return canary
	}
	return pick[any](g, canary, nil, true, -1, json.Number("1e400"), json.Number("123456789012345678901234567890"), 0.5, g.junk(),
		[]any{g.wrong(depth + 1)}, object{canary: g.wrong(depth + 1)}, object{}, []any{})
}

// body returns a body for an operation, and sets its headers.
func (g *generator) body(spec object, header http.Header) []byte {
	request, _ := spec["requestBody"].(object)
	content, _ := request["content"].(object)
	if len(content) == 0 {
		return []byte(pick(g, "", "", "", canary))
	}
	media := slices.Sorted(maps.Keys(content))[0]
	described, _ := content[media].(object)
	schema, _ := described["schema"].(object)
	header.Set("Content-Type", media)
	var text []byte
	if media == "application/x-ndjson" {
		for range g.rng.IntN(6) {
			text = append(append(text, g.json(g.doc.schema("Envelope"), nil)...), pick(g, "\n", "\n", "\r\n", "\n\n", "")...)
		}
	} else {
		text = g.json(schema, described["example"])
	}
	return g.spoil(text)
}

// json returns a valid JSON text of a schema, mostly.
func (g *generator) json(schema object, example any) []byte {
	v := g.value(schema, 0)
	if all, ok := v.(object); ok && all["body"] != nil && !g.one(4) { // a task
		all["type"], all["app"] = "send:custom", app
		all["body"] = object{"touser": canary, "msgtype": "text", "text": object{"content": canary}}
	} else if example != nil && g.one(4) {
		v = example
	}
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return text
}

// spoil makes some texts something else than JSON.
func (g *generator) spoil(text []byte) []byte {
	if !g.one(5) {
		return text
	}
	switch g.rng.IntN(9) {
	case 0:
		return text[:g.rng.IntN(len(text)+1)]
	case 1:
		return []byte(strings.Repeat("[", 100_000) + canary)
	case 2:
		return append(text, "\xff\xfe"+canary...)
	case 3:
		return bytes.ReplaceAll(text, []byte(`"`), []byte(`"`+"\xc3\x28"+canary))
	case 4:
		return append([]byte("\xef\xbb\xbf"), text...)
	case 5:
		return []byte(`{"a":1,"a":"` + canary + `"}`)
	case 6:
		return nil
	case 7:
		return append(text, text...)
	}
	random := make([]byte, g.rng.IntN(300))
	for i := range random {
		random[i] = byte(g.rng.IntN(256) & 0xff)
	}
	return random
}

// headers adds headers that mean something, or nothing.
func (g *generator) headers(header http.Header) {
	for _, name := range []string{"Accept", "Content-Type", "Content-Encoding", "Authorization", "Traceparent", "Idempotency-Key", "Prefer", "Range", "If-Match", "X-Http-Method-Override"} {
		if g.one(12) {
			header.Set(name, pick(g, g.junk(), "text/csv", "application/x-ndjson", "gzip", "application/json; charset=gbk", "image/png", "a+b;c+d", "*/*;q=0"))
		}
	}
}
