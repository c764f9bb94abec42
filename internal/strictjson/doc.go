// Package strictjson parses a JSON text (RFC 8259) into a [Document], in which each [Value]
// knows its path and its position:
//
//	doc, fault := strictjson.Parse(src, "body", strictjson.Limits{Depth: 32, Values: 1000})
//	if fault != nil {
//		return fmt.Errorf("%s: %s", fault.Path, fault.Problem)
//	}
//	defer doc.Release()
//	if v := doc.Root().Member("touser"); v.Kind() != strictjson.String {
//		return fmt.Errorf("%s: must be a string, not %s", v.Path(), v.Kind())
//	}
//
// It is stricter than encoding/json: it refuses invalid UTF-8, lone surrogates and duplicate
// keys in an object, which other parsers may read differently. It does not decode into Go
// values. Its faults are written for the producer of the text, and contain none of its values.
package strictjson
