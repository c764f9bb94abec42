package configs

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// A Mistake is one thing that is wrong with the configuration.
type Mistake struct {
	Key      string // "apps[1].token.mode"; "" when it is about the file as a whole
	Line     int    // in the file, 0 when it is not from there
	Variable string // of the environment, "" when it is not from there
	Problem  string // what is wrong, and what would be right; never a secret
}

// String is the mistake with its place.
func (m Mistake) String() string {
	var b strings.Builder
	switch {
	case m.Variable != "":
		b.WriteString("$" + m.Variable + ": ")
	case m.Line > 0:
		fmt.Fprintf(&b, "line %d: ", m.Line)
	}
	if m.Key != "" {
		b.WriteString(m.Key + ": ")
	}
	return b.String() + m.Problem
}

// Error is all mistakes of a configuration.
type Error struct {
	Path     string // the file, "" for none
	Mistakes []Mistake
}

// Error lists the mistakes, one a line.
func (e *Error) Error() string {
	name := e.Path
	if name == "" {
		name = "the configuration"
	}
	noun := "mistakes"
	if len(e.Mistakes) == 1 {
		noun = "mistake"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %d %s", name, len(e.Mistakes), noun)
	for _, m := range e.Mistakes {
		b.WriteString("\n  " + m.String())
	}
	return b.String()
}

// mistake notes what is wrong with a key, with the place that the key's value came from.
func (d *decoder) mistake(key, format string, args ...any) {
	m := Mistake{Key: key, Problem: fmt.Sprintf(format, args...)}
	from := d.from[key]
	for outer := key; from == (origin{}) && outer != ""; {
		outer = outer[:max(strings.LastIndexAny(outer, ".["), 0)]
		from = d.from[outer]
	}
	m.Line, m.Variable = from.line, from.variable
	d.mistakes = append(d.mistakes, m)
}

// sorted lists the mistakes in the order of the file, then the others.
func (d *decoder) sorted() []Mistake {
	slices.SortStableFunc(d.mistakes, func(a, b Mistake) int {
		return cmp.Or(
			cmp.Compare(boolInt(a.Line == 0), boolInt(b.Line == 0)),
			cmp.Compare(a.Line, b.Line),
			cmp.Compare(a.Variable, b.Variable))
	})
	return d.mistakes
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}
