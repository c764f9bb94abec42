package console

import (
	"math"
	"testing"
	"time"

	"github.com/wxcourier/wxcourier/internal/calendar"
)

func TestNumber(t *testing.T) {
	for _, tt := range []struct {
		value any
		want  string
	}{
		{0, "0"},
		{999, "999"},
		{1000, "1,000"},
		{int64(1234567), "1,234,567"},
		{-1204, "−1,204"},
		{0.0, "0"},
		{0.04, "<0.1"},
		{0.25, "0.2"},
		{9.96, "10.0"},
		{10.4, "10"},
		{12345.6, "12,346"},
		{math.Inf(1), none},
		{math.NaN(), none},
	} {
		if got, err := number(tt.value); err != nil || got != tt.want {
			t.Errorf("%v: %q, error %v; want %q", tt.value, got, err, tt.want)
		}
	}
	if _, err := number("1"); err == nil {
		t.Error("a text is a number")
	}
}

func TestPercent(t *testing.T) {
	for share, want := range map[float64]string{0: "0%", 0.001: "<1%", 0.254: "25%", 0.999: ">99%", 1: "100%", 1.2: "120%", math.Inf(1): none} {
		if got := percent(share); got != want {
			t.Errorf("%v: %q, want %q", share, got, want)
		}
	}
}

func TestDuration(t *testing.T) {
	for _, tt := range []struct {
		d      time.Duration
		en, zh string
	}{
		{0, "0 s", "0 秒"},
		{-time.Second, "0 s", "0 秒"},
		{120 * time.Millisecond, "120 ms", "120 毫秒"},
		{59 * time.Second, "59 s", "59 秒"},
		{4*time.Minute + 10*time.Second, "4 min 10 s", "4 分 10 秒"},
		{2 * time.Hour, "2 h", "2 小时"},
		{2*time.Hour + 5*time.Second, "2 h", "2 小时"},
		{76*time.Hour + 30*time.Minute, "3 d 4 h", "3 天 4 小时"},
	} {
		if en, zh := duration(english, tt.d), duration(chinese, tt.d); en != tt.en || zh != tt.zh {
			t.Errorf("%v: %q, %q; want %q, %q", tt.d, en, zh, tt.en, tt.zh)
		}
	}
	for v, want := range map[any]string{90.0: "1 min 30 s", int64(90): "1 min 30 s", -1.0: none, math.Inf(1): none} {
		if got, err := durationOf(english, v); err != nil || got != want {
			t.Errorf("%v: %q, error %v; want %q", v, got, err, want)
		}
	}
}

func TestClockAndAgo(t *testing.T) {
	now := time.Date(2026, 11, 22, 0, 30, 0, 0, calendar.Shanghai())
	for _, tt := range []struct {
		at              time.Time
		clock, ago, zhs string
	}{
		{time.Time{}, none, none, none},
		{now.Add(-20 * time.Second), "00:29", "just now", "刚刚"},
		{now.Add(-5 * time.Minute), "00:25", "5 min ago", "5 分钟前"},
		{now.Add(-3 * time.Hour), "11-21 21:30", "3 h ago", "3 小时前"},
		{now.AddDate(-1, 0, 0), "2025-11-22 00:30", "365 d ago", "365 天前"},
	} {
		if c, a, z := clock(now, tt.at.UTC()), ago(english, now, tt.at), ago(chinese, now, tt.at); c != tt.clock || a != tt.ago || z != tt.zhs {
			t.Errorf("%v: %q, %q, %q; want %q, %q, %q", tt.at, c, a, z, tt.clock, tt.ago, tt.zhs)
		}
	}
}

func TestBar(t *testing.T) {
	b := newBar("x", 1000, share{"used", 1}, share{"none", 0}, share{"open", 700}, share{"reserved", 299})
	want := []barPart{{"used", 0, 4}, {"open", 4, 700}, {"reserved", 704, 296}}
	if len(b.Parts) != 3 || b.Parts[0] != want[0] || b.Parts[1] != want[1] || b.Parts[2] != want[2] {
		t.Errorf("got %v, want %v", b.Parts, want)
	}
	if b := newBar("x", 0, share{"used", 1}); len(b.Parts) != 0 {
		t.Errorf("of nothing: %v", b.Parts)
	}
}

func TestChart(t *testing.T) {
	from := time.Date(2026, 11, 22, 15, 0, 0, 0, time.UTC)
	c := newChart("x", from, time.Minute, []line{{"a", "A", []int64{1, 0, 3}}, {"b", "B", []int64{0, 0, 0}}, {"c", "C", []int64{4, 5}}})
	if c.None || c.Max != 10 || len(c.Legend) != 2 || c.Legend[0].Total != 4 || c.Legend[1].Total != 9 {
		t.Errorf("%+v", c)
	}
	if want := "M0 160h211.2v-16h-211.2zM480 160h211.2v-48h-211.2z"; c.Legend[0].Path != want {
		t.Errorf("got %s, want %s", c.Legend[0].Path, want)
	}
	if want := "M0 144h211.2v-64h-211.2zM240 160h211.2v-80h-211.2z"; c.Legend[1].Path != want {
		t.Errorf("got %s, want %s", c.Legend[1].Path, want)
	}
	if len(c.Rows) != 3 || c.Rows[2].Counts[0] != 3 || c.Rows[2].Counts[1] != 0 || c.Rows[1].Counts[1] != 5 {
		t.Errorf("%+v", c.Rows)
	}
	long := newChart("x", from, time.Minute, []line{{"a", "A", make([]int64, 60)}, {"b", "B", append(make([]int64, 59), 7)}})
	if len(long.Rows) != chartRows || long.Rows[11].Counts[0] != 7 || !long.Rows[11].At.Equal(from.Add(55*time.Minute)) {
		t.Errorf("%+v", long.Rows)
	}
	if c := newChart("x", from, time.Minute, nil); !c.None {
		t.Errorf("%+v", c)
	}
	for n, want := range map[int64]int64{0: 10, 11: 12, 81: 100, 1_001: 1_200, 2_600: 3_000} {
		if got := roundUp(n); got != want {
			t.Errorf("%d: %d, want %d", n, got, want)
		}
	}
}
