package ratelimit

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/redistest"
)

// TestNoWindowExceedsItsLimit runs random schedules of several replicas and counts the calls
// as WeChat does: no sliding second or minute and no day holds more than its limit, whatever is
// given back, however late a fresh permit is used, when replicas die with leased permits, when
// Redis' clock steps in either direction, and when Redis loses all data.
func TestNoWindowExceedsItsLimit(t *testing.T) {
	rounds := uint64(120)
	if testing.Short() {
		rounds = 20
	}
	t.Run("model", func(t *testing.T) {
		for seed := range rounds {
			playSchedule(t, newModel(), seed, 6000)
		}
	})
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		for seed := range uint64(4) {
			s := newScriptStore(t, rdb)
			s.loseData()
			playSchedule(t, s, seed, 2000)
		}
	})
}

// schedule is one run: real time, and the offsets of Redis' clock and of each replica's clock.
type schedule struct {
	rnd    *rand.Rand
	keeper windowStore
	plan   plan
	late   int64
	real   int64 // µs, never steps
	offset int64 // Redis' clock less real, µs
	skew   map[string]int64
	unused []unused // permits that are given back later
	uses   []int64  // when the other permits are used, real time, µs
}

// unused is a permit that is not used, and when it was granted, real time, µs.
type unused struct {
	permit *Permit
	who    string
	real   int64
}

// playSchedule checks the limits of one random run. Odd seeds step the clock and lose data.
// Even seeds also check the limit per day, whose dates a stepping clock would falsify.
func playSchedule(t *testing.T, k windowStore, seed uint64, steps int) {
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
	margin := margins[rnd.IntN(3)]
	s := &schedule{
		rnd: rnd, keeper: k, plan: planOf(margin, limit),
		late: lateness(limit.PerSecond > 0, limit.PerMinute > 0, margin).Microseconds(),
		real: at(t, "2026-12-01T23:57:00+08:00"),
		skew: map[string]int64{"a": 0, "b": rnd.Int64N(1e12), "c": -rnd.Int64N(1e12)},
	}
	s.take("a", 1) // replica a never restarts
	for range steps {
		s.play(stepping)
	}
	uses := s.uses
	slices.Sort(uses)
	most(t, seed, "second", uses, second, int64(limit.PerSecond))
	most(t, seed, "minute", uses, minute, int64(limit.PerMinute))
	mostADay(t, seed, uses, limit.PerDay)
	if len(uses) < 50 {
		t.Errorf("seed %d: only %d calls: too few to check the limits", seed, len(uses))
	}
}

// play makes one step: time passes, a fault may happen, a permit is taken or given back.
func (s *schedule) play(stepping bool) {
	s.real += s.rnd.Int64N((60 * time.Millisecond).Microseconds())
	s.trouble(stepping)
	if s.rnd.IntN(4) == 0 && len(s.unused) > 0 {
		i := s.rnd.IntN(len(s.unused))
		if u := s.unused[i]; s.real-u.real < maxGiveBackAge.Microseconds() {
			s.keeper.giveBack(s.real+s.offset, []*Permit{u.permit})
		}
		s.unused = slices.Delete(s.unused, i, i+1)
		return
	}
	n := 1 + s.rnd.IntN(3)
	if s.rnd.IntN(4) == 0 {
		n = 100
	}
	s.take([]string{"a", "b", "c"}[s.rnd.IntN(3)], n)
}

// trouble injects a fault: a long pause, a replica that restarts without memory, and when
// stepping is set a clock that steps or a Redis that loses its data. A replica that has just
// started cannot detect the last two, so replica a, which never restarts, takes first.
func (s *schedule) trouble(stepping bool) {
	kind := s.rnd.IntN(600)
	if kind == 0 {
		s.real += s.rnd.Int64N((70 * time.Second).Microseconds())
	}
	if kind < 4 {
		who := []string{"b", "c"}[s.rnd.IntN(2)]
		s.keeper.crash(who)
		s.unused = slices.DeleteFunc(s.unused, func(u unused) bool { return u.who == who })
	}
	if !stepping || kind < 4 || kind > 9 {
		return
	}
	switch kind {
	case 4, 5:
		s.offset -= s.rnd.Int64N((8 * time.Second).Microseconds())
	case 6:
		s.offset -= s.rnd.Int64N((2 * time.Hour).Microseconds())
	case 7:
		s.offset += 100_000 + s.rnd.Int64N((8 * time.Second).Microseconds())
	case 8:
		s.offset += 100_000 + s.rnd.Int64N((2 * time.Hour).Microseconds())
	case 9:
		s.keeper.loseData()
	}
	s.take("a", 1)
}

func (s *schedule) take(who string, n int) {
	q := request{n: n, demand: []int{1, 5, 50, maxPerSecond}[s.rnd.IntN(4)]}
	if n > 1 && s.rnd.IntN(2) == 0 {
		q.lastInstant = s.real + s.offset + s.rnd.Int64N(horizonMicros)
	}
	g := s.keeper.take(s.real+s.offset, s.real+s.skew[who], who, s.plan, q)
	if len(g.instants) == 0 && g.wait < minute+second && s.rnd.IntN(2) == 0 {
		s.real += g.wait.Microseconds() // until the next request is allowed
	}
	late := []int64{0, s.late, s.rnd.Int64N(s.late)}[s.rnd.IntN(3)]
	dies := s.rnd.IntN(50) == 0
	for i, p := range (&Limiter{}).permits(g) {
		switch {
		case dies && i > 2: // the replica dies with the rest of its block
		case s.rnd.IntN(4) == 0:
			s.unused = append(s.unused, unused{p, who, s.real})
		default: // the replica waits for the instant by its monotonic clock
			s.uses = append(s.uses, p.instant-g.clockOffset-s.skew[who]+late)
		}
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
			t.Fatalf("seed %d: %d calls in a sliding %s, limit %d", seed, n, name, limit)
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
			t.Fatalf("seed %d: %d calls on day %d, limit %d", seed, n, date, limit)
		}
	}
}
