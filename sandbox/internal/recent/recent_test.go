package recent

import (
	"math/rand/v2"
	"testing"
	"time"
)

var start = time.Date(2025, 6, 1, 12, 0, 0, 0, time.UTC)

// Window must agree with a count of all events.
func TestWindowAgainstCounting(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // a repeatable test
	var w Window
	var times []int64
	at := start
	var peakSecond, peakMinute int
	for range 3000 {
		at = at.Add(time.Duration(random.IntN(int(200 * time.Millisecond))))
		if random.IntN(100) == 0 {
			at = at.Add(time.Duration(random.IntN(int(90 * time.Second))))
		}
		times = append(times, at.UnixNano())
		second, minute := 0, 0
		for _, past := range times {
			if past > at.UnixNano()-int64(time.Second) {
				second++
			}
			if past > at.UnixNano()-int64(time.Minute) {
				minute++
			}
		}
		peakSecond, peakMinute = max(peakSecond, second), max(peakMinute, minute)
		w.Add(at)
		gotSecond, gotMinute := w.Advance(at)
		if gotSecond != second || gotMinute != minute {
			t.Fatalf("%d in the second, %d in the minute; want %d, %d", gotSecond, gotMinute, second, minute)
		}
		if gotSecond, gotMinute := w.Peak(); gotSecond != peakSecond || gotMinute != peakMinute {
			t.Fatalf("peak %d in a second, %d in a minute; want %d, %d", gotSecond, gotMinute, peakSecond, peakMinute)
		}
	}
	w.Add(at.Add(-time.Hour))
	if second, _ := w.Advance(at); second < 2 {
		t.Error("setting the clock back emptied the window")
	}
}

func TestCountsForgetTheOldest(t *testing.T) {
	counts := NewCounts(10)
	for key := range uint64(100) {
		counts.Add(key, true)
		if key%2 == 0 {
			counts.Add(1000, true) // counted again, so it is kept
		}
	}
	if got := counts.Get(1000); got.Delivered != 50 {
		t.Errorf("a key in use: %+v", got)
	}
	if counts.Get(0).Calls != 0 || counts.Get(99).Calls != 1 || len(counts.newer)+len(counts.older) > 10 {
		t.Error("the oldest keys were not dropped")
	}
}

func TestKeysExpire(t *testing.T) {
	keys := Keys[int64]{Span: 10 * time.Minute}
	at := start
	for key := range uint64(10_000) {
		keys.Add(key, at, 0)
		at = at.Add(time.Second)
	}
	if n := len(keys.newer) + len(keys.older); n > 1200 {
		t.Errorf("%d keys are kept", n)
	}
	if _, ok := keys.Find(9_999, at); !ok {
		t.Error("the last key was dropped")
	}
	if _, ok := keys.Find(9_399, at); ok {
		t.Error("a key is found after its span")
	}
}
