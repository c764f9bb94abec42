package ratelimit

import (
	"math"
	"slices"
)

// slots are the instants of a row of the model: a grid of slots, a spacing apart. The slots
// before next are taken, except those that the cells leave free.
type slots struct {
	next, origin, gap, after, first int64
	taken                           map[int64]int64 // taken slots by cell; nil when no slot before next is free

	perCell   int64 // of the current take, as are all fields below
	step      float64
	saturated bool
}

// load drops what has passed at now.
func (s *slots) load(spacing, now int64) {
	s.next = min(s.next, now+horizonMicros+spacing)
	if s.taken == nil || s.next <= now || s.gap != spacing || s.after != s.next {
		s.origin, s.first, s.taken = max(now, s.next), 0, map[int64]int64{}
	}
	s.gap, s.perCell, s.step, s.saturated = spacing, max(1, cell.Microseconds()/spacing), 0, false
}

// low returns the first slot that has not passed at now.
func (s *slots) low(now int64) int64 {
	return max(0, int64(math.Ceil(float64(now-s.origin)/float64(s.gap))))
}

// pick returns an iterator over free slots and their cells, as in the script.
func (s *slots) pick(now, start int64) func() (slot, i int64, ok bool) {
	low := s.low(now)
	high := int64(math.Floor(float64(now+horizonMicros-s.origin) / float64(s.gap)))
	i, target := max(low/s.perCell, s.first), float64(max(start, low))
	return func() (int64, int64, bool) {
		for i = max(i, int64(math.Floor(target/float64(s.perCell)))); i*s.perCell <= high; i++ {
			taken := max(s.taken[i], low-i*s.perCell)
			if taken >= s.perCell {
				continue
			}
			slot := i*s.perCell + taken
			if slot > high {
				break
			}
			target = max(target, float64(i*s.perCell)) + s.step
			return slot, i, true
		}
		return 0, 0, false
	}
}

// start returns pick from the slot where a lane begins that holds instants up to from.
func (s *slots) start(now, from int64) func() (slot, i int64, ok bool) {
	if s.saturated && from > now {
		target := int64(math.Floor(float64(from-s.origin)/float64(s.gap) + s.step))
		if _, _, ok := s.pick(now, target)(); ok {
			return s.pick(now, target)
		}
	}
	return s.pick(now, 0)
}

// take takes a slot and returns its instant.
func (s *slots) take(slot, i int64) int64 {
	s.taken[i] = slot - i*s.perCell + 1
	at := s.origin + slot*s.gap
	s.next = max(s.next, at+s.gap)
	return at
}

// save drops the cells if no slot before next is free.
func (s *slots) save(now int64) {
	ends, low, holes := (s.next-s.origin)/s.gap, s.low(now), false
	s.first, s.after = max(s.first, low/s.perCell), s.next
	for i := s.first; i <= int64(math.Floor(float64(ends-1)/float64(s.perCell))); i++ {
		holes = holes || max(s.taken[i], low-i*s.perCell) < min(s.perCell, ends-i*s.perCell)
	}
	if !holes {
		s.taken = nil
	}
}

// maxMinShare returns the max-min fair share of the demand that comes first.
func maxMinShare(rate float64, demands []int64) (share float64, contended bool) {
	mine, sum, left := float64(demands[0]), int64(0), rate
	sorted := slices.Sorted(slices.Values(demands))
	for _, d := range sorted {
		sum += d
	}
	for i, d := range sorted {
		level := left / float64(len(sorted)-i)
		if float64(d) > level {
			return min(level, mine), float64(sum) > rate
		}
		left -= float64(d)
	}
	return mine, float64(sum) > rate
}
