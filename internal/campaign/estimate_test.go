package campaign_test

import (
	"testing"
	"time"

	"github.com/wxcourier/wxcourier/internal/campaign"
	"github.com/wxcourier/wxcourier/worker"
)

func TestEstimate(t *testing.T) {
	at := func(text string) time.Time {
		parsed, err := time.ParseInLocation("2006-01-02 15:04:05", "2026-12-"+text, time.FixedZone("", 8*3600))
		if err != nil {
			t.Fatal(err)
		}
		return parsed
	}
	hours := func(now time.Time) (time.Time, bool) {
		return worker.Hours{"send:*": "08:00-22:00"}.NextOpen("send:subscribe", now)
	}
	night := func(now time.Time) (time.Time, bool) {
		return worker.Hours{"*": "22:00-02:00"}.NextOpen("send:subscribe", now)
	}
	now := at("01 10:00:00")
	for _, tt := range []struct {
		name       string
		load       campaign.Load
		begin, end string // "": zero
		bound      campaign.Bound
		days       []int64
		unsent     int64
	}{
		{"nothing limits", campaign.Load{Rows: 60_000, Parallel: 60}, "01 10:00:00", "01 10:02:30", campaign.ByReplicas, []int64{60_000}, 0},
		{"no replica counts as one call", campaign.Load{Rows: 600}, "01 10:00:00", "01 10:01:30", campaign.ByReplicas, []int64{600}, 0},
		{"a second", campaign.Load{Rows: 6000, Parallel: 60, PerSecond: 100}, "01 10:00:00", "01 10:01:00", campaign.BySecond, []int64{6000}, 0},
		{"a minute", campaign.Load{Rows: 6000, Parallel: 60, PerSecond: 100, PerMinute: 600}, "01 10:00:00", "01 10:10:00", campaign.ByMinute, []int64{6000}, 0},
		{"its own rate", campaign.Load{Rows: 6000, Parallel: 60, PerSecond: 100, Rate: 10}, "01 10:00:00", "01 10:10:00", campaign.ByRate, []int64{6000}, 0},
		{"a rate above the limit", campaign.Load{Rows: 6000, Parallel: 60, PerSecond: 100, Rate: 1000}, "01 10:00:00", "01 10:01:00", campaign.BySecond, []int64{6000}, 0},
		{"at a time", campaign.Load{Rows: 6000, Parallel: 60, PerSecond: 100, At: at("03 08:00:00")}, "03 08:00:00", "03 08:01:00", campaign.BySecond, []int64{6000}, 0},
		{"at a time that has passed", campaign.Load{Rows: 6000, Parallel: 60, PerSecond: 100, At: at("01 08:00:00")}, "01 10:00:00", "01 10:01:00", campaign.BySecond, []int64{6000}, 0},
		{"behind others", campaign.Load{Rows: 6000, Ahead: 12_000, Parallel: 60, PerSecond: 100}, "01 10:02:00", "01 10:03:00", campaign.BySecond, []int64{6000}, 0},
		{"others are done before its time", campaign.Load{Rows: 6000, Ahead: 12_000, Parallel: 60, PerSecond: 100, At: at("01 11:00:00")}, "01 11:00:00", "01 11:01:00", campaign.BySecond, []int64{6000}, 0},
		{"three days", campaign.Load{Rows: 250, Parallel: 60, PerSecond: 10, PerDay: 100, UsedToday: 50}, "01 10:00:00", "03 00:00:10", campaign.ByDay, []int64{50, 100, 100}, 0},
		{"today's limit is used up", campaign.Load{Rows: 10, Parallel: 60, PerSecond: 10, PerDay: 100, UsedToday: 100}, "02 00:00:00", "02 00:00:01", campaign.ByDay, []int64{10}, 0},
		{"more than the limit is used", campaign.Load{Rows: 10, Parallel: 60, PerSecond: 10, PerDay: 100, UsedToday: 500}, "02 00:00:00", "02 00:00:01", campaign.ByDay, []int64{10}, 0},
		{"others use up the day", campaign.Load{Rows: 10, Ahead: 100, Parallel: 60, PerSecond: 10, PerDay: 100}, "02 00:00:00", "02 00:00:01", campaign.ByDay, []int64{10}, 0},
		{"a new day at its time", campaign.Load{Rows: 10, Parallel: 60, PerSecond: 10, PerDay: 100, UsedToday: 100, At: at("02 09:00:00")}, "02 09:00:00", "02 09:00:01", campaign.BySecond, []int64{10}, 0},
		{"hours", campaign.Load{Rows: 60_000, Parallel: 60, PerSecond: 1, Hours: hours}, "01 10:00:00", "02 12:40:00", campaign.ByHours, []int64{43_200, 16_800}, 0},
		{"before they open", campaign.Load{Now: at("01 07:30:00"), Rows: 10, Parallel: 60, PerSecond: 1, Hours: hours}, "01 08:00:00", "01 08:00:10", campaign.ByHours, []int64{10}, 0},
		{"hours over midnight", campaign.Load{Rows: 4 * 3600, Parallel: 60, PerSecond: 1, Hours: night}, "01 22:00:00", "02 02:00:00", campaign.ByHours, []int64{7200, 7200}, 0},
		{"hours and a day's limit", campaign.Load{Rows: 200, Parallel: 60, PerSecond: 10, PerDay: 100, Hours: hours}, "01 10:00:00", "02 08:00:10", campaign.ByDay, []int64{100, 100}, 0},
		{"a hold until noon", campaign.Load{Rows: 60, Parallel: 60, PerSecond: 1, HeldUntil: at("01 12:00:00")}, "01 12:00:00", "01 12:01:00", campaign.BySecond, []int64{60}, 0},
		{"a hold until somebody releases it", campaign.Load{Rows: 60, Parallel: 60, Held: true}, "", "", campaign.ByHold, nil, 60},
		{"more than the app's lifetime allows", campaign.Load{Rows: 60, Parallel: 60, PerSecond: 1, HasTotal: true, Total: 45, Ahead: 5}, "01 10:00:05", "", campaign.ByTotal, []int64{40}, 20},
		{"more than a year", campaign.Load{Rows: 1000, Parallel: 60, PerSecond: 1, PerDay: 1}, "01 10:00:00", "", campaign.ByDay, nil, 633},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.load.Now.IsZero() {
				tt.load.Now = now
			}
			e := campaign.Estimate(tt.load)
			for text, got := range map[string]time.Time{tt.begin: e.Begin, tt.end: e.End} {
				if text == "" {
					continue
				}
				if want := at(text); got.Sub(want).Abs() > 2*time.Second {
					t.Errorf("%v, want %v", got.In(want.Location()), want)
				}
			}
			if (tt.end == "") != e.End.IsZero() || e.Bound != tt.bound || e.Unsent != tt.unsent {
				t.Errorf("%+v, want bound %s, %d unsent", e, tt.bound, tt.unsent)
			}
			if tt.days == nil {
				return
			}
			if len(e.Days) != len(tt.days) {
				t.Fatalf("%d days: %+v, want %d", len(e.Days), e.Days, tt.days)
			}
			for i, want := range tt.days {
				if d := e.Days[i].Rows - want; d < -2 || d > 2 {
					t.Errorf("%s: %d, want %d", e.Days[i].Date, e.Days[i].Rows, want)
				}
			}
		})
	}
}
