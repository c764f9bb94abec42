package main

import (
	"math"
	"slices"
	"sort"
	"time"
)

// arrival is one call as the stand-in saw it.
type arrival struct {
	At  int64  `json:"at"`  // by monotonic, when the head of the request had been read
	App string `json:"app"` // by its token
	Key int    `json:"key"` // the task's number, from the request's body
}

// arrivalsOf picks the arrivals of an app; "" is all of them.
func arrivalsOf(all []arrival, app string) []arrival {
	var some []arrival
	for _, a := range all {
		if app == "" || a.App == app {
			some = append(some, a)
		}
	}
	return some
}

// instants are the arrivals' times, sorted.
func instants(all []arrival) []int64 {
	times := make([]int64, len(all))
	for i, a := range all {
		times[i] = a.At
	}
	slices.Sort(times)
	return times
}

// distinct counts the tasks that arrived, however often each did.
func distinct(all []arrival) int {
	keys := make(map[int]bool, len(all))
	for _, a := range all {
		keys[a.Key] = true
	}
	return len(keys)
}

// maxInWindow is the most of the sorted times in any sliding span that is open at its end,
// and how many of them were over the limit: at each, more than limit had come in the span
// that it ended.
func maxInWindow(times []int64, span time.Duration, limit int) (most, over int) {
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

// inSpan are the sorted times t with from ≤ t < to.
func inSpan(times []int64, from, to int64) []int64 {
	lo := sort.Search(len(times), func(i int) bool { return times[i] >= from })
	hi := sort.Search(len(times), func(i int) bool { return times[i] >= to })
	return times[lo:max(lo, hi)]
}

// shareOf is the part of a limit per span that was used from one time to another: the
// calls in between over the calls that the limit allows for as long. It is 0 where there
// is no time in between.
func shareOf(times []int64, from, to int64, span time.Duration, limit int) float64 {
	if to <= from {
		return 0
	}
	return float64(len(inSpan(times, from, to))) / (float64(to-from) / float64(span) * float64(limit))
}

// middleShare is shareOf without the first and the last second: what ramps up and what
// runs out is no matter of the pace.
func middleShare(times []int64, limit int) float64 {
	if len(times) == 0 {
		return 0
	}
	return shareOf(times, times[0]+int64(time.Second), times[len(times)-1]-int64(time.Second), time.Second, limit)
}

// quantile is the smallest value that a part q of the values does not exceed (nearest
// rank). It is NaN for none.
func quantile(values []float64, q float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	rank := int(math.Ceil(q * float64(len(sorted))))
	return sorted[max(rank, 1)-1]
}

// median is the middle one of the values, of an even number the lower one of the two.
func median(values []float64) float64 { return quantile(values, 0.5) }
