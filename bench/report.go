package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
)

// figure is a number in a table, with its format and its target.
type figure struct {
	value  float64
	digits int
	unit   string
	min    *float64 // target; nil: none
	max    *float64
}

func num(v float64, digits int, unit string) figure {
	return figure{value: v, digits: digits, unit: unit}
}
func whole[T ~int | ~int64](n T) figure   { return figure{value: float64(n)} }
func percent(share float64) figure        { return num(100*share, 1, " %") }
func millis(v float64) figure             { return num(v, 1, " ms") }
func megabytes(n int64) figure            { return num(float64(n)/1e6, 1, " MB") }
func (f figure) atLeast(v float64) figure { f.min = &v; return f }
func (f figure) atMost(v float64) figure  { f.max = &v; return f }

// met reports whether the figure meets its target.
func (f figure) met() bool {
	return (f.min == nil || f.value >= *f.min) && (f.max == nil || f.value <= *f.max)
}

// String formats the figure; in bold when it misses its target.
func (f figure) String() string {
	if math.IsNaN(f.value) {
		return "–"
	}
	text := fmt.Sprintf("%.*f", f.digits, f.value) + f.unit
	if !f.met() {
		return "**" + text + "**"
	}
	return text
}

// table is the result of a case.
type table struct {
	name  string
	title string
	about string // one paragraph: what was measured, and the targets
	head  []string
	rows  [][]any // of strings and figures
}

func (t *table) add(cells ...any) { t.rows = append(t.rows, cells) }

// missed returns the number of figures that miss their targets.
func (t *table) missed() (n int) {
	for _, row := range t.rows {
		for _, cell := range row {
			if f, ok := cell.(figure); ok && !f.met() {
				n++
			}
		}
	}
	return n
}

func (t *table) markdown(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "## %s\n\n%s\n\n", t.title, wrap(t.about, 92))
	fmt.Fprintf(&b, "| %s |\n|%s\n", strings.Join(t.head, " | "), strings.Repeat("---|", len(t.head)))
	for _, row := range t.rows {
		texts := make([]string, len(row))
		for i, cell := range row {
			texts[i] = fmt.Sprint(cell)
		}
		fmt.Fprintf(&b, "| %s |\n", strings.Join(texts, " | "))
	}
	b.WriteString("\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// json writes one JSON object per row: the case, and the values by column.
func (t *table) json(w io.Writer) error {
	for _, row := range t.rows {
		line := map[string]any{"case": t.name}
		missed := []string{}
		for i, cell := range row {
			switch c := cell.(type) {
			case figure:
				if !math.IsNaN(c.value) {
					line[t.head[i]] = c.value
				}
				if !c.met() {
					missed = append(missed, t.head[i])
				}
			default:
				line[t.head[i]] = cell
			}
		}
		line["missed"] = missed
		if err := json.NewEncoder(w).Encode(line); err != nil {
			return err
		}
	}
	return nil
}

// wrap breaks a text into lines of at most width bytes.
func wrap(text string, width int) string {
	var b strings.Builder
	n := 0
	for i, word := range strings.Fields(text) {
		switch {
		case i == 0:
		case n+1+len(word) > width:
			b.WriteString("\n")
			n = 0
		default:
			b.WriteString(" ")
			n++
		}
		b.WriteString(word)
		n += len(word)
	}
	return b.String()
}

// quantile returns the q-quantile of the values (nearest rank), or NaN for no values.
func quantile(values []float64, q float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	rank := int(math.Ceil(q * float64(len(sorted))))
	return sorted[max(rank, 1)-1]
}

// median returns the middle value, or the lower of the two middle values.
func median(values []float64) float64 { return quantile(values, 0.5) }
