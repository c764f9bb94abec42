package standin

import (
	"slices"
	"sort"
	"time"
)

// Arrival is one call at the stand-in.
type Arrival struct {
	At  int64  `json:"at"`  // monotonic time after the request header was read
	App string `json:"app"` // from the access token
	Key int    `json:"key"` // the task's number, from the request body
}

// OfApp returns the arrivals of an app; of all apps for "".
func OfApp(all []Arrival, app string) []Arrival {
	var some []Arrival
	for _, a := range all {
		if app == "" || a.App == app {
			some = append(some, a)
		}
	}
	return some
}

// Instants returns the times of the arrivals, sorted.
func Instants(all []Arrival) []int64 {
	times := make([]int64, len(all))
	for i, a := range all {
		times[i] = a.At
	}
	slices.Sort(times)
	return times
}

// Distinct returns the number of different tasks that arrived.
func Distinct(all []Arrival) int {
	keys := make(map[int]bool, len(all))
	for _, a := range all {
		keys[a.Key] = true
	}
	return len(keys)
}

// MaxInWindow returns the maximum number of the sorted times in any sliding half-open span, and how
// many times were over the limit: those that end a span with more than limit times.
func MaxInWindow(times []int64, span time.Duration, limit int) (most, over int) {
	first := 0
	for i, t := range times {
		for t-times[first] >= int64(span) {
			first++
		}
		n := i - first + 1
		most = max(most, n)
		if n > limit {
			over++
		}
	}
	return most, over
}

// InSpan returns the sorted times t with from ≤ t < to.
func InSpan(times []int64, from, to int64) []int64 {
	lo := sort.Search(len(times), func(i int) bool { return times[i] >= from })
	hi := sort.Search(len(times), func(i int) bool { return times[i] >= to })
	return times[lo:max(lo, hi)]
}

// ShareOf returns the share of a limit per span that was used between two times: the calls in between
// divided by the calls that the limit allows in that time. It is 0 when to ≤ from.
func ShareOf(times []int64, from, to int64, span time.Duration, limit int) float64 {
	if to <= from {
		return 0
	}
	return float64(len(InSpan(times, from, to))) / (float64(to-from) / float64(span) * float64(limit))
}

// MiddleShare is shareOf without the first and the last second, which the ramp-up and the end of the
// backlog distort.
func MiddleShare(times []int64, limit int) float64 {
	if len(times) == 0 {
		return 0
	}
	return ShareOf(times, times[0]+int64(time.Second), times[len(times)-1]-int64(time.Second), time.Second, limit)
}
