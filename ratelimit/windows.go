package ratelimit

import (
	"slices"
	"time"
)

// Span is the time over which a window counts.
type Span string

// The spans.
const (
	PerSecond Span = "second" // any sliding second
	PerMinute Span = "minute" // any sliding minute
	PerDay    Span = "day"    // a calendar day of China
	Total     Span = "total"  // the app's lifetime
)

// Window is one limit that a call of a type has to keep.
type Window struct {
	Name  string // the row: a type, or a group that it shares
	Span  Span
	Limit int64
}

// windows lists the windows of a limit, the shortest first.
func (l Limit) windows(name string) []Window {
	all := []Window{
		{name, PerSecond, int64(l.PerSecond)},
		{name, PerMinute, int64(l.PerMinute)},
		{name, PerDay, l.PerDay},
		{name, Total, l.Total},
	}
	return slices.DeleteFunc(all, func(w Window) bool { return w.Limit == 0 })
}

// Windows returns the windows of a type for an app: those of the type's row and of its groups,
// with the app's overrides. It is empty when nothing limits the type.
func (l *Limiter) Windows(app, typ string) []Window {
	var all []Window
	for _, r := range l.rowsOf(app, typ) {
		all = append(all, r.Limit.windows(r.Name)...)
	}
	return all
}

// Concurrency returns how many calls of the type one replica may make at the same time: the
// type's override, else its group's, else [DefaultConcurrency].
func (l *Limiter) Concurrency(app, typ string) int {
	for _, r := range l.rowsOf(app, typ) {
		if r.Limit.Concurrency > 0 {
			return r.Limit.Concurrency
		}
	}
	return DefaultConcurrency
}

// rowsOf returns the row of the type and then those of its groups, with the app's overrides. A
// type without a row gets an empty one, so that it can be overridden as well.
func (l *Limiter) rowsOf(app, typ string) []Row {
	var overrides map[string]Limit
	if l.overrides != nil {
		overrides = l.overrides(app)
	}
	rows := []Row{{Name: typ, Limit: Limit{}.withOverrides(overrides[typ])}}
	for _, r := range l.rows {
		r.Limit = r.Limit.withOverrides(overrides[r.Name])
		if r.Name == typ {
			rows[0] = r
		} else if slices.Contains(r.Members, typ) {
			rows = append(rows, r)
		}
	}
	return rows
}

// plan lists the rows that the scripts check for one app and type.
type plan struct {
	app, typ string
	rows     []pacedRow
	reserve  float64 // the share of a day's limit that is reserved for urgent tasks
}

// pacedRow is a row as the scripts use it; zero means no such window.
type pacedRow struct {
	name    string
	spacing time.Duration
	minute  int64
	day     int64
	total   int64
	limit   Limit
}

// planFor returns the plan of a type: its own row, even an empty one, since WeChat may have
// reported limits for it, and the rows of its groups that have a limit.
func (l *Limiter) planFor(app, typ string) plan {
	p := plan{app: app, typ: typ, reserve: l.reserve(app)}
	for i, r := range l.rowsOf(app, typ) {
		if i > 0 && len(r.Limit.windows(r.Name)) == 0 {
			continue
		}
		p.rows = append(p.rows, pacedRow{
			name: r.Name, limit: r.Limit,
			spacing: spacing(r.Limit.PerSecond, l.margin),
			minute:  allowance(r.Limit.PerMinute, l.margin),
			day:     r.Limit.PerDay,
			total:   r.Limit.Total,
		})
	}
	return p
}
