package calendar

import (
	"testing"
	"time"
)

func TestCalendar(t *testing.T) {
	for _, tt := range []struct{ now, day, minute string }{
		{"2026-12-01T12:34:56.789+08:00", "2026-12-02T00:00:02+08:00", "2026-12-01T12:35:02+08:00"},
		{"2026-12-01T15:59:59Z", "2026-12-02T00:00:02+08:00", "2026-12-02T00:00:02+08:00"},
		{"2026-12-01T16:00:00Z", "2026-12-02T00:01:02+08:00", "2026-12-02T00:01:02+08:00"},
		{"2026-12-01T16:01:00Z", "2026-12-03T00:00:02+08:00", "2026-12-02T00:02:02+08:00"},
		{"2026-12-31T20:00:00-05:00", "2027-01-02T00:00:02+08:00", "2027-01-01T09:01:02+08:00"},
	} {
		now, err := time.Parse(time.RFC3339Nano, tt.now)
		if err != nil {
			t.Fatal(err)
		}
		if got := EndOfDay(now).Format(time.RFC3339Nano); got != tt.day {
			t.Errorf("EndOfDay(%s) = %s", tt.now, got)
		}
		if got := NextMinute(now).Format(time.RFC3339Nano); got != tt.minute {
			t.Errorf("NextMinute(%s) = %s", tt.now, got)
		}
	}
}
