package console

import (
	"cmp"
	"slices"
	"time"

	"github.com/wxcourier/wxcourier/internal/series"
	"github.com/wxcourier/wxcourier/tasks"
)

// minutes is how much of the past the overview shows.
const minutes = 60

// hour is what ended in an app in the last hour.
type hour struct {
	outcomes map[tasks.Outcome]*[minutes]int64
	calls    map[string]*[minutes]int64 // tasks that took a call, by type
	codes    map[errKind]*errCode       // other than success
}

// errKind is a way in which tasks end without success.
type errKind struct {
	outcome, typ string
	code         int
}

// errCode is how many tasks ended with an errcode in the last hour.
type errCode struct {
	Outcome, Type string
	Code          int
	Meaning       string
	Count         int64
	Last          time.Time // minute
}

// newHours returns the last hour of each app, from points by minute.
func newHours(from time.Time, points []series.Point) map[string]*hour {
	hours := make(map[string]*hour)
	for _, p := range points {
		i := int(p.At.Sub(from) / time.Minute)
		if i < 0 || i >= minutes {
			continue
		}
		h := hours[p.App]
		if h == nil {
			h = &hour{make(map[tasks.Outcome]*[minutes]int64), make(map[string]*[minutes]int64), make(map[errKind]*errCode)}
			hours[p.App] = h
		}
		h.add(p, i)
	}
	return hours
}

func (h *hour) add(p series.Point, minute int) {
	outcome := tasks.Outcome(p.Outcome)
	count(h.outcomes, outcome, minute, p.Count)
	if outcome != tasks.OutcomeCanceled && outcome != tasks.OutcomeExpired {
		count(h.calls, p.Type, minute, p.Count)
	}
	if outcome == tasks.OutcomeAccepted || outcome == tasks.OutcomeCanceled {
		return
	}
	kind := errKind{p.Outcome, p.Type, p.ErrCode}
	e := h.codes[kind]
	if e == nil {
		e = &errCode{Outcome: p.Outcome, Type: p.Type, Code: p.ErrCode}
		h.codes[kind] = e
	}
	e.Count += p.Count
	if p.At.After(e.Last) {
		e.Last = p.At
	}
}

func count[K comparable](counts map[K]*[minutes]int64, key K, minute int, n int64) {
	if counts[key] == nil {
		counts[key] = new([minutes]int64)
	}
	counts[key][minute] += n
}

// lines returns the outcomes of some apps, for a chart.
func lines(hours []*hour, text func(id string, args ...any) string) []line {
	var all []line
	for _, outcome := range tasks.Outcomes() {
		values := make([]int64, minutes)
		for _, h := range hours {
			if own := h.outcomes[outcome]; own != nil {
				for i, n := range own {
					values[i] += n
				}
			}
		}
		all = append(all, line{string(outcome), text("badge." + string(outcome)), values})
	}
	return all
}

// errCodes returns the most frequent errcodes of some apps, and outcomes without one. Their meanings
// are not set.
func errCodes(hours []*hour) []errCode {
	sums := make(map[errKind]errCode)
	for _, h := range hours {
		for kind, own := range h.codes {
			sum, known := sums[kind]
			if !known {
				sums[kind] = *own
				continue
			}
			sum.Count += own.Count
			if own.Last.After(sum.Last) {
				sum.Last = own.Last
			}
			sums[kind] = sum
		}
	}
	var all []errCode
	for _, e := range sums {
		all = append(all, e)
	}
	slices.SortFunc(all, func(a, b errCode) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Code, b.Code), cmp.Compare(a.Type, b.Type), cmp.Compare(a.Outcome, b.Outcome))
	})
	all = all[:min(maxErrCodes, len(all))]
	return all
}
