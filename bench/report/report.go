// Package report formats the results of the cases: figures with their targets, in tables that are
// written as Markdown or JSON. It knows nothing of what was measured.
//
//	t := &report.Table{Name: "drain", Title: "Drain", About: "…", Head: []string{"case", "tasks a second"}}
//	t.Add("one worker", report.Number(report.Median(rates), 0, "").AtLeast(1000))
//	err := t.Markdown(os.Stdout)
package report

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
)

// Figure is a number in a table, with its format and its target. NaN is shown as a dash.
type Figure struct {
	value  float64
	digits int
	unit   string
	min    *float64 // target; nil: none
	max    *float64
}

// Number returns a figure with so many decimal places and a unit, such as " s".
func Number(v float64, digits int, unit string) Figure {
	return Figure{value: v, digits: digits, unit: unit}
}

// Count returns a figure for a whole number.
func Count[T ~int | ~int64](n T) Figure { return Figure{value: float64(n)} }

// Percent returns a figure for a share, 1 being 100 %.
func Percent(share float64) Figure { return Number(100*share, 1, " %") }

// Milliseconds returns a figure for a time in milliseconds.
func Milliseconds(v float64) Figure { return Number(v, 1, " ms") }

// Megabytes returns a figure for a number of bytes; 1 MB is 1,000,000 bytes.
func Megabytes(n int64) Figure { return Number(float64(n)/1e6, 1, " MB") }

// AtLeast returns the figure with a target: the least value, in the figure's unit.
func (f Figure) AtLeast(v float64) Figure { f.min = &v; return f }

// AtMost returns the figure with a target: the largest value, in the figure's unit.
func (f Figure) AtMost(v float64) Figure { f.max = &v; return f }

// met reports whether the figure meets its target.
func (f Figure) met() bool {
	return (f.min == nil || f.value >= *f.min) && (f.max == nil || f.value <= *f.max)
}

// String formats the figure; in bold when it misses its target.
func (f Figure) String() string {
	if math.IsNaN(f.value) {
		return "–"
	}
	text := fmt.Sprintf("%.*f", f.digits, f.value) + f.unit
	if !f.met() {
		return "**" + text + "**"
	}
	return text
}

// Table is the result of a case.
type Table struct {
	Name  string // of the case
	Title string
	About string   // one paragraph: what was measured, and the targets
	Head  []string // of the columns
	Rows  [][]any  // of strings and figures
}

// Add adds a row of strings and figures, one for each column.
func (t *Table) Add(cells ...any) { t.Rows = append(t.Rows, cells) }

// Missed returns the number of figures that miss their targets.
func (t *Table) Missed() (n int) {
	for _, row := range t.Rows {
		for _, cell := range row {
			if f, ok := cell.(Figure); ok && !f.met() {
				n++
			}
		}
	}
	return n
}

// Markdown writes the title, the paragraph and the table.
func (t *Table) Markdown(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "## %s\n\n%s\n\n", t.Title, wrap(t.About, 92))
	fmt.Fprintf(&b, "| %s |\n|%s\n", strings.Join(t.Head, " | "), strings.Repeat("---|", len(t.Head)))
	for _, row := range t.Rows {
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

// JSON writes one JSON object per row: the case, and the values by column.
func (t *Table) JSON(w io.Writer) error {
	for _, row := range t.Rows {
		line := map[string]any{"case": t.Name}
		missed := []string{}
		for i, cell := range row {
			switch c := cell.(type) {
			case Figure:
				if !math.IsNaN(c.value) {
					line[t.Head[i]] = c.value
				}
				if !c.met() {
					missed = append(missed, t.Head[i])
				}
			default:
				line[t.Head[i]] = cell
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

// Quantile returns the q-quantile of the values (nearest rank), or NaN for no values.
func Quantile(values []float64, q float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	rank := int(math.Ceil(q * float64(len(sorted))))
	return sorted[max(rank, 1)-1]
}

// Median returns the middle value, or the lower of the two middle values.
func Median(values []float64) float64 { return Quantile(values, 0.5) }
