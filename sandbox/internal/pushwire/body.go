package pushwire

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// Element is one member of a push.
type Element struct {
	Name  string
	Value Value
}

// Value is what an Element holds: one of the types of this file. They differ in how the two formats write them.
type Value interface {
	writeXML(b *bytes.Buffer, name string)
	json() any
}

// Text is a string; XML has it as CDATA.
type Text string

// Digits is a number that JSON writes as a string.
type Digits string

// Int is a number in both formats.
type Int int64

// Object has members of its own.
type Object []Element

// Flat is an object in XML; in JSON its members are those of the object around it.
type Flat []Element

// List is repeated: XML repeats its element, JSON has an array, or one object if there is one.
type List []Object

// Array is repeated: XML repeats its element, JSON has an array always.
type Array []Object

func (v Text) writeXML(b *bytes.Buffer, name string) {
	// A CDATA section cannot contain its own end, which is therefore divided between two.
	fmt.Fprintf(b, "<%s><![CDATA[%s]]></%s>", name, strings.ReplaceAll(string(v), "]]>", "]]]]><![CDATA[>"), name)
}

func (v Text) json() any { return string(v) }

func (v Digits) writeXML(b *bytes.Buffer, name string) {
	fmt.Fprintf(b, "<%s>%s</%s>", name, string(v), name)
}

func (v Digits) json() any { return string(v) }

func (v Int) writeXML(b *bytes.Buffer, name string) {
	Digits(strconv.FormatInt(int64(v), 10)).writeXML(b, name)
}

func (v Int) json() any { return int64(v) }

func (v Object) writeXML(b *bytes.Buffer, name string) {
	fmt.Fprintf(b, "<%s>", name)
	for _, e := range v {
		e.Value.writeXML(b, e.Name)
	}
	fmt.Fprintf(b, "</%s>", name)
}

// json returns the members in their order.
func (v Object) json() any { return members(v) }

func (v Flat) writeXML(b *bytes.Buffer, name string) { Object(v).writeXML(b, name) }

func (v Flat) json() any { return members(v) }

func (v List) writeXML(b *bytes.Buffer, name string) {
	for _, o := range v {
		o.writeXML(b, name)
	}
}

func (v List) json() any {
	if len(v) == 1 {
		return v[0].json()
	}
	return Array(v).json()
}

func (v Array) writeXML(b *bytes.Buffer, name string) { List(v).writeXML(b, name) }

func (v Array) json() any {
	all := make([]any, 0, len(v))
	for _, o := range v {
		all = append(all, o.json())
	}
	return all
}

// members is a JSON object with its members in order.
type members []Element

// MarshalJSON writes the members, those of a Flat in place of itself.
func (m members) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for _, e := range flatten(m) {
		if b.Len() > 1 {
			b.WriteByte(',')
		}
		value, err := marshal(e.Value.json())
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&b, "%q:%s", e.Name, value)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

func flatten(m []Element) []Element {
	var all []Element
	for _, e := range m {
		if inner, flat := e.Value.(Flat); flat {
			all = append(all, flatten(inner)...)
		} else {
			all = append(all, e)
		}
	}
	return all
}

// marshal encodes a value as WeChat does, without escapes of <, > and &.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSpace(b.Bytes()), nil
}

// XML returns a push as XML.
func XML(push []Element) []byte {
	var b bytes.Buffer
	Object(push).writeXML(&b, "xml")
	return b.Bytes()
}

// JSON returns a push as JSON.
func JSON(push []Element) ([]byte, error) { return marshal(members(push)) }
