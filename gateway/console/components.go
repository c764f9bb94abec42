package console

import (
	"fmt"
	"html/template"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/wxcourier/wxcourier/internal/calendar"
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

		receiptBadge(tasks.ReceiptDelivered): good,
		receiptBadge(tasks.ReceiptBlocked):   warn,
		receiptBadge(tasks.ReceiptFailed):    bad,

		string(inspect.PlaceScheduled): info,
		string(inspect.PlaceWaiting):   info,
		string(inspect.PlaceSending):   info,
		string(inspect.PlaceRetrying):  warn,
		string(inspect.PlaceDone):      idle,
		string(inspect.PlaceArchived):  bad,
		string(inspect.PlaceDeleted):   bad,
	}
}

// receiptBadge returns the name of the badge of a receipt. It is not that of an outcome: a message may be
// accepted, and its delivery fail.
func receiptBadge(receipt tasks.DeliveryReceipt) string {
	if receipt == "" {
		return ""
	}
	return receiptPrefix + string(receipt)
}

const receiptPrefix = "receipt-"

// receiptBadges returns the badges of all receipts.
func receiptBadges() (all []string) {
	for _, receipt := range tasks.DeliveryReceipts() {
		all = append(all, receiptBadge(receipt))
	}
	return all
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
	Title  string
	Max    int64 // of the axis
	Legend []legend
	Rows   []chartRow
	Ticks  []time.Time // of the quarters of the axis
	None   bool        // there is nothing to show
	layout string      // of times
}

// Time returns a time as the chart shows it: with the date if the chart is longer than a day.
func (c chart) Time(t time.Time) string { return t.In(calendar.Shanghai()).Format(c.layout) }

// legend is a kind of values: its color, its name, and its part of all columns as one path.
type legend struct {
	Class, Label string
	Total        int64
	Path         string
}

// chartRow is a row of the table: the sums of some steps, in the order of the legend.
type chartRow struct {
	At     time.Time
	Counts []int64
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
	chartRows   = 12 // of the table
)

// newChart returns a chart of values from a time on, one each step. Kinds without values are left out.
func newChart(title string, from time.Time, step time.Duration, lines []line) chart {
	c := chart{Title: title, layout: "15:04"}
	var sums []int64
	for _, l := range lines {
		sums = append(sums, make([]int64, max(0, len(l.values)-len(sums)))...)
		for i, v := range l.values {
			sums[i] += v
		}
	}
	steps := len(sums)
	switch span := time.Duration(steps) * step; {
	case span > 4*24*time.Hour && step >= 24*time.Hour:
		c.layout = "01-02"
	case span > 24*time.Hour:
		c.layout = "01-02 15:04"
	}
	c.Max = roundUp(slices.Max(append(sums, 0)))
	below := make([]int64, steps)
	for _, l := range lines {
		entry := legend{Class: l.class, Label: l.label, Path: columns(l.values, below, c.Max)}
		for i, v := range l.values {
			entry.Total, below[i] = entry.Total+v, below[i]+v
		}
		if entry.Total > 0 {
			c.Legend = append(c.Legend, entry)
			c.addRows(l.values, from, step, steps)
		}
	}
	c.None = len(c.Legend) == 0
	for quarter := range 4 {
		c.Ticks = append(c.Ticks, from.Add(time.Duration(steps)*step*time.Duration(quarter)/4))
	}
	return c
}

// columns returns the path of the parts of columns that stand on others.
func columns(values, below []int64, highest int64) string {
	var path strings.Builder
	width := chartWidth / float64(len(below))
	for i, v := range values {
		if v <= 0 {
			continue
		}
		bottom := chartHeight * (1 - float64(below[i])/float64(highest))
		height := max(1.5, chartHeight*float64(v)/float64(highest))
		fmt.Fprintf(&path, "M%s %sh%sv-%sh-%sz", short(float64(i)*width), short(bottom), short(width*0.88), short(height), short(width*0.88))
	}
	return path.String()
}

// short returns a number with one digit after the point, if it needs it.
func short(f float64) string { return strconv.FormatFloat(math.Round(f*10)/10, 'f', -1, 64) }

// addRows adds a column to the table.
func (c *chart) addRows(values []int64, from time.Time, step time.Duration, steps int) {
	size := max(1, (steps+chartRows-1)/chartRows)
	if c.Rows == nil {
		for i := 0; i < steps; i += size {
			c.Rows = append(c.Rows, chartRow{At: from.Add(time.Duration(i) * step)})
		}
	}
	for i := range c.Rows {
		sum := int64(0)
		for _, v := range values[min(i*size, len(values)):min((i+1)*size, len(values))] {
			sum += v
		}
		c.Rows[i].Counts = append(c.Rows[i].Counts, sum)
	}
}

// roundUp returns the next round number, at least 10.
func roundUp(n int64) int64 {
	for scale := int64(1); ; scale *= 10 {
		for _, m := range []int64{10, 12, 15, 20, 25, 30, 40, 50, 60, 80} {
			if m*scale >= n {
				return m * scale
			}
		}
	}
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
