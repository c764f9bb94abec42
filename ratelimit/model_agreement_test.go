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

// TestModelAndScriptsAgree compares the replies of the model and of the scripts over random
// schedules: short and long pauses, blocks, releases in any order, and a clock that steps back.
func TestModelAndScriptsAgree(t *testing.T) {
	steps := 1000
	if testing.Short() {
		steps = 300
	}
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		for seed := range uint64(3) {
			newScriptStore(t, rdb).loseData()
			rnd := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // a test's schedule
			compare(t, rnd, newScriptStore(t, rdb), steps)
		}
	})
}

func compare(t *testing.T, rnd *rand.Rand, script *scriptStore, steps int) {
	t.Helper()
	shared := Limit{PerDay: 400, PerSecond: 40}
	plans := []plan{
		planOf(0.05, Limit{PerSecond: 7, PerMinute: 60}, shared),
		planOf(0, Limit{PerMinute: 50, PerDay: 300}, shared, Limit{Total: 5000}),
		planOf(0.3, Limit{PerSecond: 1, PerDay: 100}),
		planOf(0.05, Limit{PerSecond: 1000, PerMinute: 20_000}),
	}
	m, now, mono := newModel(), at(t, "2026-12-01T23:58:00+08:00"), int64(0)
	var held []*Permit
	for i := range steps {
		pause := randomPause(rnd)
		now, mono = now+pause, mono+pause
		switch rnd.IntN(60) {
		case 0:
			now += rnd.Int64N((20 * time.Second).Microseconds()) // Redis' clock jumps forward
		case 1:
			if rnd.IntN(4) == 0 {
				m.loseData()
				script.loseData()
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
			k := min(len(held), j+1+rnd.IntN(20))
			for len(held) >= k && k > j { // permits of one grant together
				n := slices.IndexFunc(held[j:k], func(p *Permit) bool { return p.grant != held[j].grant })
				if n < 0 {
					n = k - j
				}
				m.giveBack(now, slices.Clone(held[j:j+n]))
				script.giveBack(now, slices.Clone(held[j:j+n]))
				held, k = slices.Delete(held, j, j+n), k-n
			}
			continue
		}
		p, who := plans[rnd.IntN(len(plans))], []string{"a", "b", "c"}[rnd.IntN(3)]
		q := randomRequest(rnd, now)
		want, got := m.take(now, mono, who, p, q), script.take(now, mono, who, p, q)
		if !reflect.DeepEqual(replyOf(got), replyOf(want)) || !reflect.DeepEqual(got.terms, want.terms) || got.bulk != want.bulk || got.spread != want.spread {
			t.Fatalf("step %d:\nscript %+v\nmodel  %+v", i, got, want)
		}
		held = append(held, (&Limiter{}).permits(got)...)
	}
}

// randomRequest returns a request, mostly for few permits, with a small or an unlimited demand.
func randomRequest(rnd *rand.Rand, now int64) request {
	q := request{n: 1 + rnd.IntN(9), demand: []int{0, 1 + rnd.IntN(9), rnd.IntN(600), maxPerSecond}[rnd.IntN(4)]}
	if rnd.IntN(4) == 0 {
		q.n = 1 + rnd.IntN(400)
	}
	if rnd.IntN(2) == 0 {
		q.lastInstant = now + rnd.Int64N(horizonMicros)
	}
	return q
}

// randomPause returns a pause in µs: mostly short, sometimes hours, sometimes negative (the
// clock steps back).
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
