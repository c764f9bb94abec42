package ratelimit

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/redistest"
)

func TestOffset(t *testing.T) {
	type reply struct {
		sent, read, now int64 // ms; Redis' clock is 1,000,000 ms ahead
		jumped          bool
		lo, hi          int64 // ms
	}
	const ahead = 1_000_000
	for _, tt := range []struct {
		name    string
		replies []reply
	}{
		{"the round trip of a reply bounds the offset", []reply{{0, 10, ahead + 4, false, ahead - 6, ahead + 4}}},
		{"the next reply narrows the bounds", []reply{
			{0, 10, ahead + 4, false, ahead - 6, ahead + 4},
			{20, 24, ahead + 21, false, ahead - 3, ahead + 1},
			{30, 90, ahead + 60, false, ahead - 3, ahead + 1},
		}},
		{"a slow reply is not a jump", []reply{
			{0, 2, ahead + 1, false, ahead - 1, ahead + 1},
			{100, 5100, ahead + 5099, false, ahead - 1, ahead + 1},
		}},
		{"a jump", []reply{
			{0, 2, ahead + 1, false, ahead - 1, ahead + 1},
			{100, 102, ahead + 111, true, ahead + 9, ahead + 11},
			{200, 202, ahead + 211, false, ahead + 9, ahead + 11},
		}},
		{"a step back replaces the bounds", []reply{
			{0, 2, ahead + 1, false, ahead - 1, ahead + 1},
			{100, 102, 1, false, -101, -99},
		}},
		{"drift is not a jump", []reply{
			{0, 2, ahead + 1, false, ahead - 1, ahead + 1},
			{100_000, 100_002, ahead + 100_041, false, ahead + 39, ahead + 41},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var o offset
			for i, r := range tt.replies {
				jumped := o.observe(ms(r.sent), ms(r.read), ms(r.now))
				near := func(a, b int64) bool { return max(a-b, b-a) < 3000 } // µs, allows for drift
				if jumped != r.jumped || !near(o.lower, ms(r.lo)) || !near(o.upper, ms(r.hi)) {
					t.Errorf("reply %d: jumped %v, between %d and %d µs", i, jumped, o.lower, o.upper)
				}
			}
		})
	}
}

// TestWithheldWindow checks when a row grants permits again after its history was lost: one
// window is withheld, the same for all replicas.
func TestWithheldWindow(t *testing.T) {
	troubles := map[string]func(k windowStore, now *int64){
		"Redis lost its data":     func(k windowStore, now *int64) { *now++; k.loseData() },
		"Redis' clock has jumped": func(_ windowStore, now *int64) { *now += time.Hour.Microseconds() },
	}
	for name, trouble := range troubles {
		for limit, wait := range map[Limit]time.Duration{
			{PerSecond: 10}: 2 * second,
			{PerMinute: 10}: bucketTTL + horizon,
			{PerDay: 10}:    0,
		} {
			t.Run(name, func(t *testing.T) {
				eachStore(t, func(t *testing.T, k windowStore) {
					now, mono, p := at(t, noon), int64(0), planOf(0, limit)
					for _, who := range []string{"a", "b"} {
						k.take(now, mono, who, p, allOf(1))
					}
					trouble(k, &now)
					if g := k.take(now, mono, "a", p, allOf(1)); g.wait != wait {
						t.Fatalf("the first replica waits %v, want %v", g.wait, wait)
					}
					now, mono = now+ms(500), mono+ms(500)
					if g := k.take(now, mono, "b", p, allOf(1)); g.wait != max(0, wait-500*time.Millisecond) {
						t.Errorf("the second replica waits %v", g.wait)
					}
					now, mono = now+wait.Microseconds(), mono+wait.Microseconds()
					for _, who := range []string{"a", "b", "new"} {
						if g := k.take(now, mono, who, p, allOf(1)); len(g.instants) != 1 {
							t.Errorf("%s waits for %v after the window", who, g.wait)
						}
					}
				})
			})
		}
	}
}

// TestRegressedData simulates a failover to a copy that lacks the last writes.
func TestRegressedData(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		k := newScriptStore(t, rdb)
		now, p := at(t, noon), planOf(0, Limit{PerSecond: 10})
		k.take(now, 0, "a", p, allOf(1))
		copied, err := rdb.HGetAll(t.Context(), stateKey(testApp, "a")).Result()
		if err != nil {
			t.Fatal(err)
		}
		k.take(now, 0, "a", p, allOf(3))
		if err := rdb.HSet(t.Context(), stateKey(testApp, "a"), copied).Err(); err != nil {
			t.Fatal(err)
		}
		if g := k.take(now, 0, "a", p, allOf(1)); g.wait != 2*second {
			t.Errorf("it waits %v", g.wait)
		}
	})
}

// TestLostLog simulates that Redis evicts a minute's log and keeps the row's other key.
func TestLostLog(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		k := newScriptStore(t, rdb)
		now, p := at(t, noon), planOf(0, Limit{PerMinute: 2})
		takeAll(k, now, "a", p, 2)
		if err := rdb.Del(t.Context(), logKey(testApp, "a")).Err(); err != nil {
			t.Fatal(err)
		}
		if g := k.take(now, now, "a", p, allOf(1)); g.wait < minute {
			t.Errorf("it waits %v", g.wait)
		}
	})
}
