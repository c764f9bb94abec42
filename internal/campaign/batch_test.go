package campaign

import (
	"testing"
	"time"

	"github.com/wxcourier/wxcourier/internal/calendar"
	"github.com/wxcourier/wxcourier/internal/hold"
	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/tasks"
)

// daytime opens at 8 and closes at 22 o'clock.
type daytime struct{}

func (daytime) NextOpen(_ string, now time.Time) (time.Time, bool) {
	now = now.In(calendar.Shanghai())
	return time.Time{}, now.Hour() >= 8 && now.Hour() < 22
}

// TestOpen estimates when the open tasks of a batch are sent: by their pace, the quota that is left of
// the day, the hours and the holds.
func TestOpen(t *testing.T) {
	at := func(day, hour, minute, second int) time.Time {
		return time.Date(2026, 11, day, hour, minute, second, 0, calendar.Shanghai())
	}
	now := at(22, 10, 0, 0)
	day := func(limit, used, reserved int64) []ratelimit.Usage {
		return []ratelimit.Usage{{Window: ratelimit.PerDay, Limit: limit, Used: used, Reserved: reserved, Factor: 1}}
	}
	second := []ratelimit.Usage{{Window: ratelimit.PerSecond, Limit: 100, Factor: 1}}
	held := func(until time.Time, by, reason string) []hold.Hold {
		return []hold.Hold{{App: "a", Scope: tasks.TypeSubscribe, Reason: reason, Until: until, By: by}}
	}
	for name, c := range map[string]struct {
		open  Open
		end   time.Time
		bound Bound
	}{
		"the pace of now":           {Open{Tasks: 600, Pace: 10}, at(22, 10, 1, 0), ByRate},
		"a limit, while none ended": {Open{Tasks: 9500, Usage: second, Margin: 0.05}, at(22, 10, 1, 40), BySecond},
		"behind others":             {Open{Tasks: 950, Usage: second, Margin: 0.05, Ahead: 9500 - 950}, at(22, 10, 1, 40), BySecond},
		"the rest of today":         {Open{Tasks: 600, Pace: 10, Usage: day(1000, 700, 0)}, at(23, 0, 0, 30), ByDay},
		"what bulk tasks may use":   {Open{Tasks: 600, Pace: 10, Bulk: true, Usage: day(1000, 0, 700)}, at(23, 0, 0, 30), ByDay},
		"the hours":                 {Open{Tasks: 12*3600*10 + 600, Pace: 10, Hours: daytime{}}, at(23, 8, 1, 0), ByHours},
		"a hold that ends":          {Open{Tasks: 600, Pace: 10, Holds: held(at(22, 12, 0, 0), "somebody", "operator")}, at(22, 12, 1, 0), ByRate},
		"a hold that does not end":  {Open{Tasks: 600, Pace: 10, Holds: held(time.Time{}, "somebody", "operator")}, time.Time{}, ByHold},
		"a hold that is probed":     {Open{Tasks: 600, Pace: 10, Holds: held(at(22, 12, 0, 0), hold.ReplicaPrefix+"r", "capability")}, time.Time{}, ByHold},
	} {
		c.open.Now, c.open.Type, c.open.Parallel = now, tasks.TypeSubscribe, 1000
		e := Estimate(c.open.Load())
		if off := e.End.Sub(c.end).Abs(); off > 2*time.Second || e.Bound != c.bound {
			t.Errorf("%s: ends %v by %s, want %v by %s", name, e.End, e.Bound, c.end, c.bound)
		}
	}
}
