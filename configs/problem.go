package configs

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// A Problem is one thing that is wrong with the configuration.
type Problem struct {
	File     string // of apps_dir; "": the main file, or none
	Key      string // such as "apps[1].token.mode", or "token.mode" in a file of apps_dir; "": the whole file
	Line     int    // in the file; 0: not from a file, or of the whole file
	Variable string // of the environment; "": not from the environment
	Message  string // the problem and the remedy; never a secret
}

// String returns the problem with its place.
func (p Problem) String() string {
	var b strings.Builder
	if p.File != "" {
		b.WriteString(p.File + ": ")
	}
	switch {
	case p.Variable != "":
		b.WriteString("$" + p.Variable + ": ")
	case p.Line > 0:
		fmt.Fprintf(&b, "line %d: ", p.Line)
	}
	if p.Key != "" {
		b.WriteString(p.Key + ": ")
	}
	return b.String() + p.Message
}

// Error holds all problems of a configuration.
type Error struct {
	Path     string // of the file; "": none
	Problems []Problem
}

// Error lists the problems, one a line.
func (e *Error) Error() string {
	name := e.Path
	if name == "" {
		name = "the configuration"
	}
	noun := "mistakes"
	if len(e.Problems) == 1 {
		noun = "mistake"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %d %s", name, len(e.Problems), noun)
	for _, p := range e.Problems {
		b.WriteString("\n  " + p.String())
	}
	return b.String()
}

// problem records a problem with a key, and the place where the key, or else its parent, was set.
func (d *decoder) problem(key, format string, args ...any) {
	p := Problem{Key: key, Message: fmt.Sprintf(format, args...)}
	from := d.from[key]
	for outer := key; from == (origin{}) && outer != ""; {
		outer = outer[:max(strings.LastIndexAny(outer, ".["), 0)]
		from = d.from[outer]
	}
	p.File, p.Line, p.Variable = from.file, from.line, from.variable
	if p.File != "" { // the file holds one app
		_, p.Key, _ = strings.Cut(key, "].")
	}
	d.problems = append(d.problems, p)
}

// sorted returns the problems in the order of the file, then those of the environment.
func (d *decoder) sorted() []Problem {
	slices.SortStableFunc(d.problems, func(a, b Problem) int {
		return cmp.Or(
			cmp.Compare(a.File, b.File),
			cmp.Compare(boolInt(a.Line == 0), boolInt(b.Line == 0)),
			cmp.Compare(a.Line, b.Line),
			cmp.Compare(a.Variable, b.Variable))
	})
	return d.problems
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}
