package console

import (
	"cmp"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/wxcourier/wxcourier/internal/calendar"
	"github.com/wxcourier/wxcourier/internal/series"
	"github.com/wxcourier/wxcourier/tasks"
)

func (c *Console) failuresPage() page {
	return page{name: "failures", path: "/failures", nav: true, shortcut: "x", live: true, load: c.loadFailures}
}

// failureRange is a span of time that the list of failures can show.
type failureRange struct {
	Name string // in the URL; failures.range.<name> is its text
	span time.Duration
	step time.Duration // of its chart, and to which times are known
	// shared is how long a reading is shown: one of 35 days of many apps takes long.
	shared time.Duration
}

// failureRanges returns the spans of time; the second one is the default.
func failureRanges() []failureRange {
	return []failureRange{
		{"1h", time.Hour, time.Minute, sharing},
		{"24h", dayLength, time.Hour, 10 * time.Second},
		{"7d", 7 * dayLength, time.Hour, 30 * time.Second},
		{"35d", 35 * dayLength, dayLength, time.Minute},
	}
}

// failureOutcomes returns the outcomes that are listed: what did not reach a person, and nobody
// canceled.
func failureOutcomes() []tasks.Outcome {
	return []tasks.Outcome{tasks.OutcomeFailed, tasks.OutcomeUnknown, tasks.OutcomeRejected, tasks.OutcomeRefused, tasks.OutcomeExpired}
}

// failureFilter is what a URL of the page selects.
type failureFilter struct {
	Range, App, Type string
	Outcome          tasks.Outcome
}

// failuresData is the data of the page.
type failuresData struct {
	Filter   failureFilter
	Ranges   []failureLink
	Apps     []string
	Types    []string
	Outcomes []tasks.Outcome
	Step     time.Duration // to which times are known
	Back     time.Time     // earlier outcomes are not read yet; zero: all are
	Rows     []failureRow
	More     int64 // failures in rows that are not shown
	Total    int64 // failures
	Ended    int64 // all tasks that ended
	Chart    chart
}

// Share is for templates.
func (d failuresData) Share() float64 { return float64(d.Total) / float64(max(1, d.Ended)) }

type failureLink struct {
	Name, URL string
	Current   bool
}

// failureRow is one kind of failure.
type failureRow struct {
	Type     string
	Outcome  tasks.Outcome
	Code     codeText
	Answered bool // Code says what WeChat answered
	Other    bool // errcodes that are not told apart
	Count    int64
	Share    float64 // of all tasks of the type that ended
	First    time.Time
	Last     time.Time
	Spark    string // path of its small chart
	FindURL  string
	// RedriveURL is "" if the outcome cannot be undone; Not is then the text that says why.
	RedriveURL, Not string
}

const (
	sparkColumns = 35 // of a row's small chart
	failureRows  = 50
)

// kind is a kind of outcome.
type kind struct {
	typ     string
	outcome tasks.Outcome
	code    int
}

// loadFailures shows the kinds of failures in a span of time.
func (c *Console) loadFailures(r *request) (any, error) {
	f, span := parseFailureFilter(r.URL.Query())
	if f.App != "" {
		if err := r.require("read", f.App); err != nil {
			return nil, err
		}
	}
	all, err := c.outcomes(r.Context(), span)
	if err != nil {
		return nil, err
	}
	apps, err := c.findApps(r, f.App)
	if err != nil {
		return nil, err
	}
	sums := all.of(apps)
	data := newFailures(r.lang, f, span, all, sums)
	data.Apps = r.apps()
	data.Chart = failureChart(c.views.texts, r.lang, f, span, all, sums)
	return data, nil
}

// Daily reports whether times are known to the day only.
func (d failuresData) Daily() bool { return d.Step >= dayLength }

// BackText is Back for templates.
func (d failuresData) BackText() string { return dateTime(d.Back) }

// parseFailureFilter reads the fields of a URL. What it does not know is left out.
func parseFailureFilter(v url.Values) (failureFilter, failureRange) {
	ranges := failureRanges()
	span := ranges[1]
	for _, one := range ranges {
		if one.Name == v.Get("range") {
			span = one
		}
	}
	f := failureFilter{Range: span.Name}
	if tasks.ValidApp(v.Get("app")) {
		f.App = v.Get("app")
	}
	if _, known := tasks.Lookup(v.Get("type")); known {
		f.Type = v.Get("type")
	}
	if outcome := tasks.Outcome(v.Get("outcome")); slices.Contains(failureOutcomes(), outcome) {
		f.Outcome = outcome
	}
	return f, span
}

// url returns the URL of the page with a filter.
func (f failureFilter) url() string {
	v := url.Values{"range": {f.Range}}
	for field, text := range map[string]string{"app": f.App, "type": f.Type, "outcome": string(f.Outcome)} {
		if text != "" {
			v.Set(field, text)
		}
	}
	return "/failures?" + v.Encode()
}

// newFailures returns the rows: the most frequent kind first.
func newFailures(lang language, f failureFilter, span failureRange, all outcomeCounts, sums map[kind]*counts) failuresData {
	data := failuresData{Filter: f, Types: tasks.Types(), Outcomes: failureOutcomes(), Step: span.step, Back: all.back}
	for _, one := range failureRanges() {
		to := f
		to.Range = one.Name
		data.Ranges = append(data.Ranges, failureLink{one.Name, to.url(), one.Name == f.Range})
	}
	ended := make(map[string]int64)
	for k, n := range sums {
		ended[k.typ] += n.total
		if f.Type == "" || f.Type == k.typ {
			data.Ended += n.total
		}
	}
	for k, n := range sums {
		if !f.wants(k) {
			continue
		}
		data.Total += n.total
		row := newFailureRow(lang, f, k, n, all.from, span.step)
		row.Share = float64(n.total) / float64(max(1, ended[k.typ]))
		data.Rows = append(data.Rows, row)
	}
	slices.SortFunc(data.Rows, func(a, b failureRow) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Type, b.Type), cmp.Compare(a.Outcome, b.Outcome), cmp.Compare(a.Code.Code, b.Code.Code))
	})
	for _, row := range data.Rows[min(failureRows, len(data.Rows)):] {
		data.More += row.Count
	}
	data.Rows = data.Rows[:min(failureRows, len(data.Rows))]
	return data
}

func (f failureFilter) wants(k kind) bool {
	return slices.Contains(failureOutcomes(), k.outcome) && (f.Type == "" || f.Type == k.typ) && (f.Outcome == "" || f.Outcome == k.outcome)
}

func newFailureRow(lang language, f failureFilter, k kind, n *counts, from time.Time, step time.Duration) failureRow {
	row := failureRow{Type: k.typ, Outcome: k.outcome, Count: n.total, Other: k.code == series.OtherErrCode, Spark: newSpark(n.steps)}
	row.Code, row.Answered = outcomeMeaning(lang, k.typ, k.outcome, k.code)
	for i, v := range n.steps {
		if v == 0 {
			continue
		}
		at := from.Add(time.Duration(i) * step)
		if row.First.IsZero() {
			row.First = at
		}
		row.Last = at
	}
	find := findFilter{
		App: f.App, Type: k.typ, Status: string(k.outcome), From: from.In(calendar.Shanghai()).Format(timeFields),
	}
	again := redriveFilter{
		App: f.App, Type: k.typ, Outcome: k.outcome, Since: from.UTC().Format(time.RFC3339), Back: f.url(),
	}
	if !row.Other {
		find.ErrCode = strconv.Itoa(k.code)
		again.ErrCode = find.ErrCode
	}
	row.FindURL = find.url()
	switch {
	case !slices.Contains(tasks.Redrivable(), k.outcome):
		row.Not = "redrive.not." + string(k.outcome)
	case row.Other:
		row.Not = "redrive.not.other"
	default:
		row.RedriveURL = again.URL()
	}
	return row
}

// newSpark returns the path of a small chart, as chart draws it. Several steps share a column where
// there are many.
func newSpark(steps []int64) string {
	columnCount := min(sparkColumns, len(steps))
	sums := make([]int64, columnCount)
	for i, v := range steps {
		sums[i*columnCount/len(steps)] += v
	}
	return columns(sums, make([]int64, columnCount), max(1, slices.Max(append(sums, 0))))
}

// failureChart returns the chart of the failures by outcome.
func failureChart(words texts, lang language, f failureFilter, span failureRange, all outcomeCounts, sums map[kind]*counts) chart {
	lines := make([]line, len(failureOutcomes()))
	for i, outcome := range failureOutcomes() {
		label, _ := words.in(lang, "badge."+string(outcome))
		lines[i] = line{class: string(outcome), label: label, values: make([]int64, all.steps)}
	}
	for k, n := range sums {
		if !f.wants(k) {
			continue
		}
		values := lines[slices.Index(failureOutcomes(), k.outcome)].values
		for i, v := range n.steps {
			values[i] += v
		}
	}
	title, _ := words.in(lang, "failures.chart")
	return newChart(title, all.from, span.step, lines)
}
