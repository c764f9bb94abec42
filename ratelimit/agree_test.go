package ratelimit

import (
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/redistest"
)

// TestModelAndScriptAgree compares the model with the scripts over random schedules:
// short and long pauses, blocks, releases in any order, and a clock that steps back.
func TestModelAndScriptAgree(t *testing.T) {
	steps := 1000
	if testing.Short() {
		steps = 300
	}
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		for seed := range uint64(3) {
			newScripted(t, rdb).forget()
			rnd := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // a test's schedule
			compare(t, rnd, newScripted(t, rdb), steps)
		}
	})
}

func compare(t *testing.T, rnd *rand.Rand, script *scripted, steps int) {
	t.Helper()
	shared := Limit{PerDay: 400, PerSecond: 40}
	plans := []plan{
		planOf(0.05, Limit{PerSecond: 7, PerMinute: 60}, shared),
		planOf(0, Limit{PerMinute: 50, PerDay: 300}, shared, Limit{Total: 5000}),
		planOf(0.3, Limit{PerSecond: 1, PerDay: 100}),
	}
	m, now, mono := newModel(), at(t, "2026-12-01T23:58:00+08:00"), int64(0)
	var held []*Permit
	for i := range steps {
		pause := randomPause(rnd)
		now, mono = now+pause, mono+pause
		switch rnd.IntN(60) {
		case 0:
			now += rnd.Int64N((20 * time.Second).Microseconds()) // Redis' clock leaps
		case 1:
			if rnd.IntN(4) == 0 {
				m.forget()
				script.forget()
			}
		case 2:
			row := []string{"a", "b"}[rnd.IntN(2)]
			m.feedback(now, row)
			script.feedback(now, row)
		case 3:
			m.crash("b")
			script.crash("b")
		}
		if len(held) > 0 && rnd.IntN(3) == 0 {
			j := rnd.IntN(len(held))
			k := min(len(held), j+1+rnd.IntN(5))
			for _, p := range held[j:k] { // of different grants: one at a time
				m.giveBack(now, []*Permit{p})
				script.giveBack(now, []*Permit{p})
			}
			held = slices.Delete(held, j, k)
			continue
		}
		p, n, who := plans[rnd.IntN(len(plans))], 1+rnd.IntN(9), []string{"a", "b", "c"}[rnd.IntN(3)]
		want, got := m.take(now, mono, who, p, n), script.take(now, mono, who, p, n)
		if !reflect.DeepEqual(answerOf(got), answerOf(want)) || !reflect.DeepEqual(got.terms, want.terms) || got.bulk != want.bulk {
			t.Fatalf("step %d:\nscript %+v\nmodel  %+v", i, got, want)
		}
		held = append(held, (&Limiter{}).permits(got)...)
	}
}

// randomPause is mostly short, sometimes hours, and sometimes a step back, in µs.
func randomPause(rnd *rand.Rand) int64 {
	switch n := rnd.IntN(400); {
	case n < 2:
		return -rnd.Int64N((48 * time.Hour).Microseconds())
	case n < 8:
		return -rnd.Int64N((3 * time.Second).Microseconds())
	case n < 12:
		return rnd.Int64N((13 * time.Hour).Microseconds())
	case n < 40:
		return rnd.Int64N((20 * time.Second).Microseconds())
	default:
		return rnd.Int64N((300 * time.Millisecond).Microseconds())
	}
}
