package ratelimit

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/redistest"
)

// TestNoWindowEverExceeds plays random schedules of several replicas and looks at the
// calls as WeChat would: no sliding second or minute and no day holds more than its
// limit, whatever is given back, however late a fresh permit is used, and when Redis'
// clock steps back.
func TestNoWindowEverExceeds(t *testing.T) {
	rounds := uint64(60)
	if testing.Short() {
		rounds = 10
	}
	t.Run("model", func(t *testing.T) {
		for seed := range rounds {
			playSchedule(t, newModel(), seed, 6000)
		}
	})
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		for seed := range uint64(2) {
			if err := rdb.FlushAll(t.Context()).Err(); err != nil {
				t.Fatal(err)
			}
			playSchedule(t, newScripted(t, rdb), seed, 2000)
		}
	})
}

// schedule is one run: real time, and what Redis' clock is away from it.
type schedule struct {
	rnd    *rand.Rand
	keeper keeper
	plan   plan
	real   int64    // µs, never steps
	offset int64    // Redis' clock less real, µs
	unused []unused // to be given back some time
	uses   []int64  // when the other permits are used, real µs
}

// unused is a permit that nobody uses, and when it was granted, real µs.
type unused struct {
	permit *Permit
	real   int64
}

// playSchedule checks the limits of one random run. Its odd seeds step the clock back,
// its even ones also check the days, whose dates no stepping clock can tell.
func playSchedule(t *testing.T, k keeper, seed uint64, steps int) {
	t.Helper()
	rnd := rand.New(rand.NewPCG(seed, 2)) //nolint:gosec // a test's schedule
	margins := []float64{0.01, 0.05, 0.2}
	limit := Limit{PerSecond: []int{1, 3, 20, 97}[rnd.IntN(4)], PerMinute: 30 + rnd.IntN(300), PerDay: int64(300 + rnd.IntN(1500))}
	switch rnd.IntN(3) {
	case 0:
		limit.PerSecond = 0
	case 1:
		limit.PerMinute = 0
	}
	stepping := seed%2 == 1
	if stepping {
		limit.PerDay = 0
	}
	s := &schedule{
		rnd: rnd, keeper: k, plan: planOf(margins[rnd.IntN(3)], limit),
		real: at(t, "2026-12-01T23:57:00+08:00"),
	}
	for range steps {
		s.play(stepping)
	}
	uses := s.uses
	slices.Sort(uses)
	most(t, seed, "second", uses, second, int64(limit.PerSecond))
	most(t, seed, "minute", uses, minute, int64(limit.PerMinute))
	mostADay(t, seed, uses, limit.PerDay)
	if len(uses) < 50 {
		t.Errorf("seed %d: only %d calls: the schedule shows nothing", seed, len(uses))
	}
}

// play is one move: time passes, the clock may step, a permit is taken or given back.
func (s *schedule) play(stepping bool) {
	s.real += s.rnd.Int64N((60 * time.Millisecond).Microseconds())
	switch s.rnd.IntN(300) {
	case 0:
		s.real += s.rnd.Int64N((70 * time.Second).Microseconds())
	case 1:
		if stepping {
			s.offset -= s.rnd.Int64N((8 * time.Second).Microseconds())
		}
	case 2:
		if stepping {
			s.offset -= s.rnd.Int64N((2 * time.Hour).Microseconds())
		}
	}
	now := s.real + s.offset
	if s.rnd.IntN(4) == 0 && len(s.unused) > 0 {
		i := s.rnd.IntN(len(s.unused))
		if u := s.unused[i]; s.real-u.real < giveBackWithin.Microseconds() {
			s.keeper.giveBack(now, u.permit)
		}
		s.unused = slices.Delete(s.unused, i, i+1)
		return
	}
	n := 1 + s.rnd.IntN(3)
	if s.rnd.IntN(8) == 0 {
		n = 100
	}
	a := s.keeper.take(now, s.plan, n)
	if a.wait < minute+second && s.rnd.IntN(2) == 0 {
		s.real += a.wait.Microseconds() // asks again as soon as it may
	}
	late := []int64{0, s.plan.late.Microseconds(), s.rnd.Int64N(s.plan.late.Microseconds())}[s.rnd.IntN(3)]
	for _, instant := range a.instants {
		if s.rnd.IntN(4) == 0 {
			s.unused = append(s.unused, unused{&Permit{plan: s.plan, instant: instant, granted: now}, s.real})
			continue
		}
		// Whoever holds it waits for its instant by a clock that does not step.
		s.uses = append(s.uses, s.real+instant-now+late)
	}
}

// most fails when any half-open sliding window holds more than limit of the sorted uses.
func most(t *testing.T, seed uint64, name string, uses []int64, span time.Duration, limit int64) {
	t.Helper()
	if limit == 0 {
		return
	}
	first := 0
	for i, u := range uses {
		for u-uses[first] >= span.Microseconds() {
			first++
		}
		if n := int64(i - first + 1); n > limit {
			t.Fatalf("seed %d: %d calls in a sliding %s, of %d", seed, n, name, limit)
		}
	}
}

func mostADay(t *testing.T, seed uint64, uses []int64, limit int64) {
	t.Helper()
	if limit == 0 {
		return
	}
	counts := map[int64]int64{}
	for _, u := range uses {
		counts[dateOf(u)]++
	}
	for date, n := range counts {
		if n > limit {
			t.Fatalf("seed %d: %d calls on day %d, of %d", seed, n, date, limit)
		}
	}
}
