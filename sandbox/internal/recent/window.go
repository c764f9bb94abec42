package recent

import "time"

// Window counts the events of the last second and the last minute exactly, and records the highest counts. It uses eight
// bytes for each event of the last minute. The zero value is an empty window.
type Window struct {
	times  []int64 // Unix nanoseconds; a ring whose length is a power of two
	next   uint64  // number of the next event; event n is at times[n % len]
	minute uint64  // first event of the last minute
	second uint64  // first event of the last second
	last   int64
	peak   struct{ second, minute int }
}

// Advance drops expired events, and returns how many events are in the windows (at-span, at]. Time does not
// go back if the clock is set back.
func (w *Window) Advance(at time.Time) (inSecond, inMinute int) {
	now := max(at.UnixNano(), w.last)
	w.last = now
	for w.minute < w.next && w.at(w.minute) <= now-int64(time.Minute) {
		w.minute++
	}
	w.second = max(w.second, w.minute)
	for w.second < w.next && w.at(w.second) <= now-int64(time.Second) {
		w.second++
	}
	return int(w.next - w.second), int(w.next - w.minute) //nolint:gosec // bounded by the ring's length
}

// Add adds an event.
func (w *Window) Add(at time.Time) {
	second, minute := w.Advance(at)
	if minute == len(w.times) {
		w.grow()
	}
	w.times[w.next&uint64(len(w.times)-1)] = w.last //nolint:gosec // grow leaves a length of at least 64
	w.next++
	w.peak.second = max(w.peak.second, second+1)
	w.peak.minute = max(w.peak.minute, minute+1)
}

// Peak returns the highest number of events in any sliding second, and in any sliding minute.
func (w *Window) Peak() (second, minute int) { return w.peak.second, w.peak.minute }

func (w *Window) at(n uint64) int64 {
	return w.times[n&uint64(len(w.times)-1)] //nolint:gosec // called for stored events only
}

func (w *Window) grow() {
	wider := make([]int64, max(64, 2*len(w.times)))
	for n := w.minute; n < w.next; n++ {
		wider[n&uint64(len(wider)-1)] = w.at(n) //nolint:gosec // the length is positive
	}
	w.times = wider
}
