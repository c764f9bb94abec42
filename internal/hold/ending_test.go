package hold

import (
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/calendar"
	"github.com/wxcourier/wxcourier/internal/redistest"
)

// refuse sets a hold as a replica does after a refusal.
func refuse(t *testing.T, s *Store, reason string, end End) (inForce Hold, begun bool) {
	t.Helper()
	inForce, begun, err := s.SetEnding(t.Context(), Hold{
		App: testApp, Scope: "send:subscribe", Reason: reason, Code: 1, By: ReplicaPrefix + "r1",
	}, end)
	if err != nil {
		t.Fatal(err)
	}
	return inForce, begun
}

// TestReplicaLeavesOperatorsHold: an operator's hold keeps reason, code, since, until and by,
// even if the replica's hold would end later. Once it has ended, the replica's hold replaces it.
func TestReplicaLeavesOperatorsHold(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		for name, lasts := range map[string]time.Duration{"without an end": 0, "30 days": 30 * 24 * time.Hour, "shorter than the replica's": time.Minute} {
			t.Run(name, func(t *testing.T) {
				s, start, clock := clocked(t, rdb)
				want := Hold{App: testApp, Scope: "send:subscribe", Reason: "legal", By: "somebody@somewhere"}
				if lasts > 0 {
					want.Until = start.Add(lasts)
				}
				set(t, s, want)
				want.Since, want.Tries = start, 1
				*clock = start.Add(10 * time.Second)
				for _, end := range []End{{After: time.Second}, {After: time.Hour}, {At: NextMinute}, {At: EndOfDay}} {
					if got, begun := refuse(t, s, "refused", end); begun || !sameHold(got, want) {
						t.Errorf("%+v: begun %v, in force: %+v", end, begun, got)
					}
				}
				if h, active, err := s.Get(t.Context(), testApp, "send:subscribe"); err != nil || !active || !sameHold(h, want) {
					t.Errorf("recorded: %+v, %v, %v", h, active, err)
				}
				if lasts == time.Minute {
					*clock = start.Add(time.Minute)
					if got, begun := refuse(t, s, "quota_day", End{At: EndOfDay}); !begun || got.Reason != "quota_day" || !got.Since.Equal(*clock) || got.Tries != 1 {
						t.Errorf("after its end: begun %v, %+v", begun, got)
					}
				}
				if _, err := s.Lift(t.Context(), testApp, "send:subscribe"); err != nil {
					t.Fatal(err)
				}
			})
		}
	})
}

// TestShorterHoldIsIgnored: a hold for the day's quota replaces one for the second, and is not
// replaced by later shorter ones.
func TestShorterHoldIsIgnored(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		s, start, clock := clocked(t, rdb)
		if _, begun := refuse(t, s, "rate_second", End{After: time.Second}); !begun {
			t.Error("the first hold has not begun")
		}
		*clock = start.Add(100 * time.Millisecond)
		day, begun := refuse(t, s, "quota_day", End{At: EndOfDay})
		if begun || day.Reason != "quota_day" || !day.Until.Equal(calendar.EndOfDay(start)) || !day.Since.Equal(*clock) {
			t.Errorf("begun %v, %+v", begun, day)
		}
		*clock = start.Add(200 * time.Millisecond)
		for _, end := range []End{{After: time.Second}, {At: NextMinute}} {
			if got, begun := refuse(t, s, "rate", end); begun || !sameHold(got, day) {
				t.Errorf("%+v: begun %v, %+v", end, begun, got)
			}
		}
	})
}

// TestTriesRestartWithAnotherReason: probing pauses grow with the tries of one reason, not with
// all holds of the lane.
func TestTriesRestartWithAnotherReason(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		s, start, clock := clocked(t, rdb)
		for n := range 3 {
			*clock = start.Add(time.Duration(n) * time.Minute)
			refuse(t, s, "rate_second", End{After: time.Second})
		}
		*clock = start.Add(time.Hour)
		if got, _ := refuse(t, s, "capability", End{After: time.Minute}); got.Tries != 1 {
			t.Errorf("%d tries of a new reason, want 1", got.Tries)
		}
	})
}

// TestHoldEndsByRedisClock: since and until come from Redis' clock, which here is years away
// from this machine's. The ends of minutes and days are those of the calendar.
func TestHoldEndsByRedisClock(t *testing.T) {
	instants := []time.Time{
		time.Date(2031, 3, 1, 12, 0, 30, 250_500_000, calendar.Shanghai()),
		time.Date(2031, 3, 1, 0, 0, 0, 0, calendar.Shanghai()),
		time.Date(2031, 3, 1, 0, 0, 59, 999_999_000, calendar.Shanghai()),
		time.Date(2031, 3, 1, 0, 1, 0, 0, calendar.Shanghai()),
		time.Date(2031, 12, 31, 23, 59, 59, 999_000_000, calendar.Shanghai()),
		time.Date(2015, 2, 28, 7, 59, 59, 0, calendar.Shanghai()), // close to midnight in UTC only
	}
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		for i, now := range instants {
			s := NewStore(rdb, WithClock(func() time.Time { return now }))
			for end, want := range map[End]time.Time{
				{At: NextMinute}:                 calendar.NextMinute(now),
				{At: EndOfDay}:                   calendar.EndOfDay(now),
				{After: 1500 * time.Millisecond}: now.Add(1500 * time.Millisecond),
				{After: time.Hour}:               now.Add(time.Hour),
				{}:                               now.Add(time.Millisecond),
				{After: time.Second}:             now.Add(time.Second),
			} {
				h := Hold{
					App: testApp, Scope: fmt.Sprint(i, end), Reason: "x", By: ReplicaPrefix + "r1",
					Since: time.Now(), Until: time.Now(),
				}
				got, begun, err := s.SetEnding(t.Context(), h, end)
				if err != nil || !begun {
					t.Fatalf("%v at %v: %v, begun %v", end, now, err, begun)
				}
				if late := got.Until.Sub(want); late < 0 || late > time.Millisecond {
					t.Errorf("%v at %v ends at %v, want %v", end, now, got.Until, want)
				}
				if early := now.Sub(got.Since); early < 0 || early > time.Millisecond {
					t.Errorf("%v at %v: since %v", end, now, got.Since)
				}
			}
		}
	})
}

// TestHeld: Store.Held reports holds of the type and of the app while they are in force.
func TestHeld(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		s, start, clock := clocked(t, rdb)
		is := func(typ string, want bool) {
			t.Helper()
			if got, err := s.Held(t.Context(), testApp, typ); err != nil || got != want {
				t.Errorf("%s: held %v, %v", typ, got, err)
			}
		}
		is("send:subscribe", false)
		set(t, s, Hold{App: testApp, Scope: TemplateScope("T1")})
		is("send:subscribe", false)
		set(t, s, Hold{App: testApp, Scope: "send:subscribe", Until: start.Add(time.Minute)})
		is("send:subscribe", true)
		is("send:custom", false)
		*clock = start.Add(time.Minute)
		is("send:subscribe", false)
		set(t, s, Hold{App: testApp, Scope: WholeApp})
		is("send:custom", true)
	})
}
