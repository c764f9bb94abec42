package main

import (
	"slices"
	"sort"
	"time"
)

// arrival is one call at the stand-in.
type arrival struct {
	At  int64  `json:"at"`  // monotonic time after the request header was read
	App string `json:"app"` // from the access token
	Key int    `json:"key"` // the task's number, from the request body
}

// arrivalsOf returns the arrivals of an app; of all apps for "".
func arrivalsOf(all []arrival, app string) []arrival {
	var some []arrival
	for _, a := range all {
		if app == "" || a.App == app {
			some = append(some, a)
		}
	}
	return some
}

// instants returns the times of the arrivals, sorted.
func instants(all []arrival) []int64 {
	times := make([]int64, len(all))
	for i, a := range all {
		times[i] = a.At
	}
	slices.Sort(times)
	return times
}

// distinct returns the number of different tasks that arrived.
func distinct(all []arrival) int {
	keys := make(map[int]bool, len(all))
	for _, a := range all {
		keys[a.Key] = true
	}
	return len(keys)
}

// maxInWindow returns the maximum number of the sorted times in any sliding half-open span, and how
// many times were over the limit: those that end a span with more than limit times.
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

// inSpan returns the sorted times t with from ≤ t < to.
func inSpan(times []int64, from, to int64) []int64 {
	lo := sort.Search(len(times), func(i int) bool { return times[i] >= from })
	hi := sort.Search(len(times), func(i int) bool { return times[i] >= to })
	return times[lo:max(lo, hi)]
}

// shareOf returns the share of a limit per span that was used between two times: the calls in between
// divided by the calls that the limit allows in that time. It is 0 when to ≤ from.
func shareOf(times []int64, from, to int64, span time.Duration, limit int) float64 {
	if to <= from {
		return 0
	}
	return float64(len(inSpan(times, from, to))) / (float64(to-from) / float64(span) * float64(limit))
}

// middleShare is shareOf without the first and the last second, which the ramp-up and the end of the
// backlog distort.
func middleShare(times []int64, limit int) float64 {
	if len(times) == 0 {
		return 0
	}
	return shareOf(times, times[0]+int64(time.Second), times[len(times)-1]-int64(time.Second), time.Second, limit)
}
