package campaign

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/wxcourier/wxcourier/internal/strictjson"
	"github.com/wxcourier/wxcourier/internal/suggest"
)

// place is a place of a template for a cell: {{column|filter:argument|filter}}.
type place struct {
	text     string // as written
	path     string // of the value that contains it
	column   string
	fallback *string // what stands for an empty cell; nil: an empty cell is a fault
	filters  []filter
	bare     bool // the whole value is the place, and a number: it has no quotes
}

// filter changes the text of a cell, or returns why it cannot.
type filter struct {
	name  string
	apply func(text string) (string, error)
}

// isNumber reports whether the result is a number.
func (p *place) isNumber() bool {
	return len(p.filters) > 0 && p.filters[len(p.filters)-1].name == "number"
}

// filterSpec is a filter that a template may use.
type filterSpec struct {
	name  string
	usage string
	parse func(p *place, argument string, given bool) (filter, error)
}

// filterSpecs are the filters. "default" is one by its form only: it acts before the others.
func filterSpecs() []filterSpec {
	return []filterSpec{
		{"cut", "cut:20", parseCut},
		{"default", "default:text", parseDefault},
		{"number", "number", plain("number", number)},
		{"url", "url", plain("url", func(text string) (string, error) {
			return strings.ReplaceAll(url.QueryEscape(text), "+", "%20"), nil
		})},
	}
}

// plain returns the parser of a filter without an argument.
func plain(name string, apply func(string) (string, error)) func(*place, string, bool) (filter, error) {
	return func(_ *place, _ string, given bool) (filter, error) {
		if given {
			return filter{}, fmt.Errorf("the filter %s takes no argument", name)
		}
		return filter{name, apply}, nil
	}
}

const ellipsis = "…"

// parseCut returns the filter that limits a text to a number of characters. A longer text ends
// with an ellipsis, which is one of them.
func parseCut(_ *place, argument string, _ bool) (filter, error) {
	n, err := strconv.Atoi(strings.TrimSpace(argument))
	if err != nil || n < 1 {
		return filter{}, errors.New("the filter cut takes a number of characters, such as cut:20")
	}
	return filter{"cut", func(text string) (string, error) {
		if utf8.RuneCountInString(text) <= n {
			return text, nil
		}
		end := 0
		for range n - 1 {
			_, size := utf8.DecodeRuneInString(text[end:])
			end += size
		}
		return strings.TrimRight(text[:end], " ") + ellipsis, nil
	}}, nil
}

func parseDefault(p *place, argument string, given bool) (filter, error) {
	if !given {
		return filter{}, errors.New("the filter default takes the text for an empty cell, such as default:客户; default: is no text")
	}
	p.fallback = &argument
	return filter{}, nil
}

func number(text string) (string, error) {
	if !jsonNumber(text) {
		return "", errors.New("not a number such as 1234 or 12.5")
	}
	return text, nil
}

// jsonNumber reports whether a text is a number of JSON without an exponent.
func jsonNumber(text string) bool {
	whole, decimals, point := strings.Cut(strings.TrimPrefix(text, "-"), ".")
	digits := func(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }
	return digits(whole) && (len(whole) == 1 || whole[0] != '0') && (!point || digits(decimals))
}

// parsePlace parses the inside of {{ and }}.
func parsePlace(inside string) (*place, error) {
	parts := strings.Split(inside, "|")
	p := &place{text: inside, column: strings.TrimSpace(parts[0])}
	if p.column == "" {
		return nil, errors.New("{{}} without the name of a column")
	}
	for _, part := range parts[1:] {
		name, argument, given := strings.Cut(part, ":")
		f, err := parseFilter(p, strings.TrimSpace(name), argument, given)
		if err != nil {
			return nil, err
		}
		if f.apply != nil {
			p.filters = append(p.filters, f)
		}
	}
	return p, nil
}

func parseFilter(p *place, name, argument string, given bool) (filter, error) {
	var names, usages []string
	for _, spec := range filterSpecs() {
		if spec.name == name {
			return spec.parse(p, argument, given)
		}
		names, usages = append(names, spec.name), append(usages, spec.usage)
	}
	if meant, ok := suggest.Name(name, names); ok {
		return filter{}, fmt.Errorf("no filter %s; did you mean %q?", strictjson.Quote(name), meant)
	}
	return filter{}, fmt.Errorf("no filter %s: the filters are %s", strictjson.Quote(name), strings.Join(usages, ", "))
}

// fill returns what stands in the place for a cell.
func (p *place) fill(cell string) (string, error) {
	if cell == "" {
		if p.fallback == nil {
			return "", errors.New("empty: fill it in, or write {{" + p.column + "|default:…}} in the template")
		}
		cell = *p.fallback
	}
	for _, f := range p.filters {
		var err error
		if cell, err = f.apply(cell); err != nil {
			return "", err
		}
	}
	return cell, nil
}
