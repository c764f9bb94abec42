package standin

import (
	"math"
	"testing"
	"time"
)

// evenly returns n times at intervals of gap.
func evenly(n int, gap time.Duration) []int64 {
	times := make([]int64, n)
	for i := range times {
		times[i] = int64(i) * int64(gap)
	}
	return times
}

func TestDensest(t *testing.T) {
	for _, tt := range []struct {
		name       string
		times      []int64
		limit      int
		most, over int
	}{
		{"none", nil, 1, 0, 0},
		{"one", []int64{5}, 1, 1, 0},
		{"one second apart", evenly(3, time.Second), 1, 1, 0},
		{"less than a second apart", evenly(3, time.Second-1), 1, 2, 2},
		{"evenly at the limit", evenly(1000, 10*time.Millisecond), 100, 100, 0},
		{"evenly over it", evenly(1000, 10*time.Millisecond), 99, 100, 901},
	} {
		if most, over := MaxInWindow(tt.times, time.Second, tt.limit); most != tt.most || over != tt.over {
			t.Errorf("%s: most %d and over %d; want %d and %d", tt.name, most, over, tt.most, tt.over)
		}
	}
}

func TestMiddleShare(t *testing.T) {
	slow := evenly(1000, 20*time.Millisecond)
	for _, tt := range []struct {
		name  string
		times []int64
		want  float64
	}{
		{"none", nil, 0},
		{"too short for a middle", evenly(100, 10*time.Millisecond), 0},
		{"all of it", evenly(1001, 10*time.Millisecond), 1},
		{"half of it", slow, 0.5},
		{"the ramp-up does not count", append([]int64{-int64(time.Second) - 1}, slow...), 0.5},
	} {
		if got := MiddleShare(tt.times, 100); math.Abs(got-tt.want) > 0.002 {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestDistinct(t *testing.T) {
	all := []Arrival{{App: "a", Key: 1}, {App: "a", Key: 1}, {App: "b", Key: 2}}
	if n := Distinct(all); n != 2 {
		t.Errorf("%d distinct tasks, want 2", n)
	}
	if n := len(OfApp(all, "a")); n != 2 {
		t.Errorf("%d arrivals of a, want 2", n)
	}
}

func TestKeyOf(t *testing.T) {
	for body, want := range map[string]int{
		`{"jump_wxa":{"query":"k=17"}}`: 17,
		`{"content":"k=0"}`:             0,
		`{"content":"k="}`:              -1,
		`{}`:                            -1,
	} {
		if got := keyOf([]byte(body)); got != want {
			t.Errorf("the key of %s is %d, want %d", body, got, want)
		}
	}
}
