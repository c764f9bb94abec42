package sandbox

import "time"

// slidingWindow counts the events of the last second and the last minute exactly, and records the highest counts. It uses eight
// bytes for each event of the last minute.
type slidingWindow struct {
	times  []int64 // Unix nanoseconds; a ring whose length is a power of two
	next   uint64  // number of the next event; event n is at times[n % len]
	minute uint64  // first event of the last minute
	second uint64  // first event of the last second
	last   int64
	peak   Peak
}

// Peak is the highest number of calls in any sliding second and in any sliding minute.
type Peak struct {
	Second int `json:"second"`
	Minute int `json:"minute"`
}

// advance drops expired events, and returns how many events are in the windows (now-span, now].
func (w *slidingWindow) advance(at time.Time) (inSecond, inMinute int) {
	now := max(at.UnixNano(), w.last) // time does not go back if the clock is set back
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

func (w *slidingWindow) add(at time.Time) {
	second, minute := w.advance(at)
	if minute == len(w.times) {
		w.grow()
	}
	w.times[w.next&uint64(len(w.times)-1)] = w.last //nolint:gosec // grow leaves a length of at least 64
	w.next++
	w.peak.Second = max(w.peak.Second, second+1)
	w.peak.Minute = max(w.peak.Minute, minute+1)
}

func (w *slidingWindow) at(n uint64) int64 {
	return w.times[n&uint64(len(w.times)-1)] //nolint:gosec // called for stored events only
}

func (w *slidingWindow) grow() {
	wider := make([]int64, max(64, 2*len(w.times)))
	for n := w.minute; n < w.next; n++ {
		wider[n&uint64(len(wider)-1)] = w.at(n) //nolint:gosec // the length is positive
	}
	w.times = wider
}
