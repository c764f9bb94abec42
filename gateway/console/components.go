package console

import (
	"fmt"
	"html/template"
	"strconv"
	"time"

	"github.com/wxcourier/wxcourier/internal/inspect"
	"github.com/wxcourier/wxcourier/tasks"
)

// tone is the color of a badge. It never tells something that the text beside it does not.
type tone string

// The tones.
const (
	good tone = "good"
	info tone = "info"
	warn tone = "warn"
	bad  tone = "bad"
	idle tone = "idle"
)

// tones are the tones of the outcomes of tasks and of their places. The text of each is badge.<name>.
func tones() map[string]tone {
	return map[string]tone{
		string(tasks.OutcomeAccepted): good,
		string(tasks.OutcomeRefused):  warn,
		string(tasks.OutcomeRejected): bad,
		string(tasks.OutcomeExpired):  warn,
		string(tasks.OutcomeFailed):   bad,
		string(tasks.OutcomeUnknown):  bad,
		string(tasks.OutcomeCanceled): idle,

		string(inspect.PlaceScheduled): info,
		string(inspect.PlaceWaiting):   info,
		string(inspect.PlaceSending):   info,
		string(inspect.PlaceRetrying):  warn,
		string(inspect.PlaceDone):      idle,
		string(inspect.PlaceArchived):  bad,
		string(inspect.PlaceDeleted):   bad,
	}
}

// tag returns a short text with a tone.
func tag(t tone, text string) template.HTML {
	return template.HTML(`<span class="tag ` + template.HTMLEscapeString(string(t)) + `">` + template.HTMLEscapeString(text) + `</span>`) //nolint:gosec // escaped
}

// bar is a horizontal bar of parts, such as the share of a quota that is used.
type bar struct {
	Label string // what it shows, in words: for screen readers, and as its tooltip
	Parts []barPart
}

// barPart is a part of a bar: Start and Width are thousandths of the whole.
type barPart struct {
	Class        string // of style.css: used, reserved, done, or the name of an outcome
	Start, Width int64
}

// share is a part of a whole.
type share struct {
	class string
	n     int64
}

// newBar returns a bar of parts that stand one after the other, of a whole. What is not nothing can
// be seen.
func newBar(label string, whole int64, shares ...share) bar {
	b := bar{Label: label}
	var start int64
	for _, s := range shares {
		if s.n <= 0 || whole <= 0 {
			continue
		}
		width := min(max(4, int64(float64(s.n)/float64(whole)*1000)), 1000-start)
		b.Parts = append(b.Parts, barPart{s.class, start, width})
		start += width
	}
	return b
}

// chart is a chart of stacked columns over time, with its legend and the same as a table.
type chart struct {
	Title   string
	Max     int64 // of the axis
	Columns []column
	Legend  []legend
	Ticks   []time.Time // of the quarters of the axis
	None    bool        // there is nothing to show
}

// column is the values of one step.
type column struct {
	X, Width float64
	At       time.Time
	Parts    []columnPart
	Total    int64
	Counts   []int64 // as the legend
}

type columnPart struct {
	Class     string
	Y, Height float64
}

type legend struct {
	Class, Label string
	Total        int64
}

// line is the values of one kind in a chart.
type line struct {
	class, label string
	values       []int64
}

// The size of a chart, in the units of its SVG; texts are outside of it.
const (
	chartWidth  = 720
	chartHeight = 160
)

// newChart returns a chart of values from a time on, one each step.
func newChart(title string, from time.Time, step time.Duration, lines []line) chart {
	c := chart{Title: title, None: true}
	steps := 0
	for _, l := range lines {
		total := int64(0)
		for _, v := range l.values {
			total += v
		}
		c.Legend = append(c.Legend, legend{l.class, l.label, total})
		steps, c.None = max(steps, len(l.values)), c.None && total == 0
	}
	if steps == 0 {
		return c
	}
	width := float64(chartWidth) / float64(steps)
	for i := range steps {
		col := column{X: round(float64(i) * width), Width: round(max(width-1, width*0.8)), At: from.Add(time.Duration(i) * step)}
		for _, l := range lines {
			v := int64(0)
			if i < len(l.values) {
				v = l.values[i]
			}
			col.Counts, col.Total = append(col.Counts, v), col.Total+v
		}
		c.Max = max(c.Max, col.Total)
		c.Columns = append(c.Columns, col)
	}
	c.Max = roundUp(c.Max)
	for i := range c.Columns {
		c.Columns[i].stack(lines, c.Max)
	}
	for quarter := range 4 {
		c.Ticks = append(c.Ticks, from.Add(time.Duration(steps)*step*time.Duration(quarter)/4))
	}
	return c
}

// stack computes the parts of a column.
func (c *column) stack(lines []line, highest int64) {
	y := float64(chartHeight)
	for i, l := range lines {
		if v := c.Counts[i]; v > 0 {
			height := max(1.5, float64(v)/float64(highest)*chartHeight)
			y = max(0, y-height)
			c.Parts = append(c.Parts, columnPart{l.class, round(y), round(height)})
		}
	}
}

// roundUp returns the next number of the form 1, 2 or 5 and zeros.
func roundUp(n int64) int64 {
	for scale := int64(1); ; scale *= 10 {
		for _, m := range []int64{1, 2, 5} {
			if m*scale >= n {
				return m * scale
			}
		}
	}
}

func round(f float64) float64 {
	f, _ = strconv.ParseFloat(strconv.FormatFloat(f, 'f', 1, 64), 64) // of its own format
	return f
}

// pager is the way through a long list. The texts are URLs, "" where there is no such page.
type pager struct {
	First, Next string
}

// notice is what the next page tells about what was done.
type notice struct {
	Text string   `json:"text"` // id of a text
	Args []string `json:"args,omitempty"`
}

// newNotice returns a notice. Numbers get their separators.
func newNotice(text string, args ...any) notice {
	n := notice{Text: text}
	for _, arg := range args {
		shown, err := number(arg)
		if err != nil {
			shown = fmt.Sprint(arg)
		}
		n.Args = append(n.Args, shown)
	}
	return n
}
