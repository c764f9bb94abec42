package api_test

import (
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// object is an object of the OpenAPI document.
type object = map[string]any

// document is the OpenAPI document, as a client reads it.
type document struct {
	object
	mu       sync.Mutex
	patterns map[string]*regexp.Regexp // guarded by mu
}

// resolve follows the references of a schema.
func (d *document) resolve(schema object) object {
	for {
		ref, ok := schema["$ref"].(string)
		if !ok {
			return schema
		}
		schema = d.schema(strings.TrimPrefix(ref, "#/components/schemas/"))
	}
}

func (d *document) schema(name string) object {
	components, _ := d.object["components"].(object)
	schemas, _ := components["schemas"].(object)
	schema, ok := schemas[name].(object)
	if !ok {
		panic("the document has no schema " + name)
	}
	return schema
}

func (d *document) pattern(text string) *regexp.Regexp {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.patterns[text] == nil {
		d.patterns[text] = regexp.MustCompile(text)
	}
	return d.patterns[text]
}

// keywords are those of JSON Schema that validate knows, or may ignore.
var keywords = []string{
	"$ref", "type", "enum", "format", "pattern", "minLength", "maxLength", "minimum", "maximum", "items", "minItems", "maxItems",
	"properties", "required", "additionalProperties", "oneOf", "description", "examples", "default", "contentEncoding", "patternDescription",
}

// validate returns what is wrong with a value by a schema; "" if nothing is.
func (d *document) validate(schema object, v any, path string) string {
	schema = d.resolve(schema)
	for keyword := range schema {
		if !slices.Contains(keywords, keyword) {
			return "unknown keyword " + keyword
		}
	}
	if one, ok := schema["oneOf"].([]any); ok {
		matches := 0
		for _, s := range one {
			if d.validate(s.(object), v, path) == "" {
				matches++
			}
		}
		if matches != 1 {
			return fmt.Sprintf("%s: %d of oneOf match", path, matches)
		}
		return ""
	}
	if enum, ok := schema["enum"].([]any); ok && !slices.Contains(enum, v) {
		return fmt.Sprintf("%s: %v is not in the enum", path, v)
	}
	if !typed(schema["type"], v) {
		return fmt.Sprintf("%s: %v is not a %v", path, v, schema["type"])
	}
	switch v := v.(type) {
	case string:
		return d.validateString(schema, v, path)
	case float64:
		if least, ok := schema["minimum"].(float64); ok && v < least {
			return fmt.Sprintf("%s: %v is below the minimum", path, v)
		}
		if most, ok := schema["maximum"].(float64); ok && v > most {
			return fmt.Sprintf("%s: %v is above the maximum", path, v)
		}
	case []any:
		items, _ := schema["items"].(object)
		for i, element := range v {
			if fault := d.validate(items, element, fmt.Sprintf("%s[%d]", path, i)); fault != "" {
				return fault
			}
		}
	case object:
		return d.validateObject(schema, v, path)
	}
	return ""
}

func (d *document) validateString(schema object, s, path string) string {
	if pattern, ok := schema["pattern"].(string); ok && !d.pattern(pattern).MatchString(s) {
		return path + ": does not match the pattern"
	}
	if most, ok := schema["maxLength"].(float64); ok && utf8.RuneCountInString(s) > int(most) {
		return path + ": is too long"
	}
	if schema["format"] == "date-time" {
		if _, err := time.Parse(time.RFC3339Nano, s); err != nil {
			return path + ": is no date-time"
		}
	}
	return ""
}

func (d *document) validateObject(schema, v object, path string) string {
	required, _ := schema["required"].([]any)
	for _, name := range required {
		if _, ok := v[name.(string)]; !ok {
			return fmt.Sprintf("%s.%v is missing", path, name)
		}
	}
	properties, _ := schema["properties"].(object)
	for name, value := range v {
		property, ok := properties[name].(object)
		if more, isSchema := schema["additionalProperties"].(object); !ok && isSchema {
			property, ok = more, true
		}
		if !ok && schema["additionalProperties"] == false {
			return fmt.Sprintf("%s.%s is not in the schema", path, name)
		}
		if !ok {
			continue
		}
		if fault := d.validate(property, value, path+"."+name); fault != "" {
			return fault
		}
	}
	return ""
}

// typed reports whether a value has a type, or one of some types.
func typed(want, v any) bool {
	if all, ok := want.([]any); ok {
		return slices.ContainsFunc(all, func(one any) bool { return typed(one, v) })
	}
	switch v := v.(type) {
	case nil:
		return want == nil || want == "null"
	case bool:
		return want == nil || want == "boolean"
	case string:
		return want == nil || want == "string"
	case float64:
		return want == nil || want == "number" || want == "integer" && v == math.Trunc(v)
	case []any:
		return want == nil || want == "array"
	}
	return want == nil || want == "object"
}

// parse decodes a JSON text of the API.
func parse(text string) (v any, err error) {
	err = json.Unmarshal([]byte(text), &v)
	return v, err
}
