package configs

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// A Mistake is one thing that is wrong with the configuration.
type Mistake struct {
	Key      string // such as "apps[1].token.mode"; "": the whole file
	Line     int    // in the file; 0: not from the file
	Variable string // of the environment; "": not from the environment
	Problem  string // the problem and the remedy; never a secret
}

// String returns the mistake with its place.
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

// Error holds all mistakes of a configuration.
type Error struct {
	Path     string // of the file; "": none
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

// mistake records a problem with a key, and the place where the key, or else its parent, was set.
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

// sorted returns the mistakes in the order of the file, then those of the environment.
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
