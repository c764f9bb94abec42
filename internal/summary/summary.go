// Package summary counts results by type and outcome, and writes the counts as a table.
//
//	var s summary.Summary
//	s.Add(result)
//	_ = s.Write(os.Stderr)
package summary

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/wxcourier/wxcourier/tasks"
)

// Summary counts results by type and outcome. The zero value is empty.
type Summary struct {
	counts map[cell]int
}

type cell struct {
	typ     string
	outcome tasks.Outcome
}

// Add counts a result.
func (s *Summary) Add(r tasks.Result) {
	if s.counts == nil {
		s.counts = make(map[cell]int)
	}
	s.counts[cell{r.Type, r.Outcome}]++
}

// Count returns the number of results with an outcome.
func (s *Summary) Count(outcome tasks.Outcome) int {
	n := 0
	for c, count := range s.counts {
		if c.outcome == outcome {
			n += count
		}
	}
	return n
}

// Total returns the number of results.
func (s *Summary) Total() int {
	n := 0
	for _, count := range s.counts {
		n += count
	}
	return n
}

// Write writes a table with a row for each type and a column for each outcome that occurred,
// and their sums. It writes nothing for an empty Summary.
func (s *Summary) Write(w io.Writer) error {
	if len(s.counts) == 0 {
		return nil
	}
	var types []string
	for _, spec := range tasks.Catalog() {
		types = append(types, spec.Type)
	}
	for c := range s.counts {
		if !slices.Contains(types, c.typ) {
			types = append(types, c.typ) // a type of a newer version
		}
	}
	outcomes := slices.DeleteFunc(tasks.Outcomes(), func(o tasks.Outcome) bool { return s.Count(o) == 0 })
	var b strings.Builder
	row := func(name, sum string, value func(tasks.Outcome) string) {
		fmt.Fprintf(&b, "%-17s", name)
		for _, o := range outcomes {
			fmt.Fprintf(&b, "%*s", 2+max(len(o), len(Number(s.Count(o)))), value(o))
		}
		fmt.Fprintf(&b, "%*s\n", 2+max(len("total"), len(Number(s.Total()))), sum)
	}
	row("type", "total", func(o tasks.Outcome) string { return string(o) })
	for _, typ := range types {
		sum := 0
		for _, o := range outcomes {
			sum += s.counts[cell{typ, o}]
		}
		if sum > 0 {
			row(typ, Number(sum), func(o tasks.Outcome) string { return Number(s.counts[cell{typ, o}]) })
		}
	}
	row("total", Number(s.Total()), func(o tasks.Outcome) string { return Number(s.Count(o)) })
	_, err := io.WriteString(w, b.String())
	return err
}

// Number formats a count with thousands separators: 12,345.
func Number(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
