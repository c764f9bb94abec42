package ratelimit

import (
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/redistest"
)

func TestFeedback(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		l, now := overriding(rdb, map[string]Limit{links: {PerMinute: 1000}}), at(t, noon)
		l.now = func() int64 { return now }
		l.mono = l.now
		wantFactor := func(typ string, span Span, want float64) {
			t.Helper()
			if got, err := l.Feedback(t.Context(), testApp, typ, span); err != nil || got != want {
				t.Errorf("%s, %s: factor %v, %v; want %v", typ, span, got, err, want)
			}
		}
		gap := func() time.Duration {
			t.Helper()
			now += ms(5000)
			g, err := l.take(t.Context(), l.planFor(testApp, links), allOf(2))
			if err != nil || len(g.instants) != 2 {
				t.Fatalf("%+v, %v", g, err)
			}
			return time.Duration(g.instants[1]-g.instants[0]) * time.Microsecond
		}
		full := gap()
		wantFactor(links, PerSecond, 0.7)
		wantFactor(links, PerSecond, 0.7) // within the same second
		if got := gap(); got < full*10/7-time.Microsecond || got > full*10/7+time.Microsecond {
			t.Errorf("the gap grew from %v to %v", full, got)
		}
		wantFactor(links, PerSecond, 0.49)
		for range 20 {
			now += ms(1001)
			_, _ = l.Feedback(t.Context(), testApp, links, PerSecond)
		}
		wantFactor(links, PerSecond, 0.1)
		now += (20 * time.Second).Microseconds()
		usage, err := l.Usage(t.Context(), testApp, links)
		if err != nil || usage[0].Factor != 0.2 || usage[1].Factor != 0.2 || usage[2].Factor != 1 {
			t.Errorf("twenty seconds later: %+v, %v", usage, err)
		}
		now += (3 * time.Minute).Microseconds()
		if got := gap(); got != full {
			t.Errorf("the pace has not recovered: gap %v, want %v", got, full)
		}
		wantFactor(templateSends, PerSecond, 1)     // no limit to slow down
		wantFactor("seccheck:text", PerSecond, 0.7) // its only limit, per minute
		wantFactor("seccheck:text", PerMinute, 0.7) // within the same minute
	})
}

func TestLearn(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		l, other := overriding(rdb, map[string]Limit{templateSends: {PerDay: 50}}), overriding(rdb, map[string]Limit{templateSends: {PerDay: 50}})
		now := at(t, noon)
		for _, l := range []*Limiter{l, other} {
			l.now = func() int64 { return now }
			l.mono = l.now
		}
		learn := func(typ string, learned Learned) {
			t.Helper()
			if err := l.Learn(t.Context(), testApp, typ, learned); err != nil {
				t.Fatal(err)
			}
		}
		shows := func(typ string, want ...Usage) {
			t.Helper()
			if got, err := other.Usage(t.Context(), testApp, typ); err != nil || !slices.Equal(withoutTimes(got), want) {
				t.Errorf("%s: %+v, %v; want %+v", typ, got, err, want)
			}
		}
		learn(templateSends, Learned{PerDay: 100_000, UsedToday: 3})
		shows(templateSends, Usage{Name: templateSends, Window: PerDay, Limit: 50, Learned: 100_000, Used: 3, Factor: 1})
		learn(templateSends, Learned{PerDay: 10, UsedToday: 8})
		for i := range 3 {
			d, err := other.Try(t.Context(), testApp, templateSends)
			if err != nil || (d.Permit != nil) != (i < 2) {
				t.Errorf("call %d of the two that are left: %+v, %v", i, d, err)
			}
		}
		learn(templateSends, Learned{UsedToday: 1}) // drops the limit, keeps the count
		shows(templateSends, Usage{Name: templateSends, Window: PerDay, Limit: 50, Used: 10, Factor: 1})

		const biz = "send:bizsubscribe" // no documented limit
		learn(biz, Learned{PerDay: 7, Calls: 1200, Per: time.Minute})
		shows(biz,
			Usage{Name: biz, Window: PerMinute, Learned: 1200, Factor: 1},
			Usage{Name: biz, Window: PerDay, Learned: 7, Factor: 1})
		learn(biz, Learned{Calls: 50, Per: 10 * time.Second})
		shows(biz, Usage{Name: biz, Window: PerSecond, Learned: 5, Factor: 1})
		g, err := other.take(t.Context(), other.planFor(testApp, biz), allOf(2))
		if err != nil || len(g.instants) != 1 || g.terms[0].spacing < ms(200) || g.maxLateness > 30*time.Millisecond {
			t.Errorf("the calls are not spaced out: %+v, %v", g, err)
		}
	})
}

// TestLeasesBeforeLearnAreNotGivenBack: WeChat's count does not include permits that were
// leased before Learn, so they must not be subtracted from it. Later ones are.
func TestLeasesBeforeLearnAreNotGivenBack(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		l, now := overriding(rdb, map[string]Limit{templateSends: {PerDay: 50}}), at(t, noon)
		l.now = func() int64 { return now }
		l.mono = l.now
		take := func() *Permit {
			t.Helper()
			d, err := l.Try(t.Context(), testApp, templateSends)
			if err != nil || d.Permit == nil {
				t.Fatalf("%+v, %v", d, err)
			}
			return d.Permit
		}
		before := take()
		if err := l.Learn(t.Context(), testApp, templateSends, Learned{UsedToday: 20}); err != nil {
			t.Fatal(err)
		}
		after := take()
		for i, p := range []*Permit{before, after} {
			if err := l.Release(t.Context(), p); err != nil {
				t.Fatal(err)
			}
			if used := usageOf(t, l, templateSends)[PerDay]; used != int64(21-i) {
				t.Errorf("%d used after %d permits were given back", used, i+1)
			}
		}
	})
}

// TestLearnedLimitAppliesAtOnce: permits leased under a higher limit are given back.
func TestLearnedLimitAppliesAtOnce(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		l := overriding(rdb, map[string]Limit{templateSends: {PerSecond: 1000}})
		learn := func(perSecond int64) {
			t.Helper()
			if err := l.Learn(t.Context(), testApp, templateSends, Learned{Calls: perSecond, Per: time.Second}); err != nil {
				t.Fatal(err)
			}
		}
		next := func() *Permit {
			t.Helper()
			p, err := l.Acquire(t.Context(), testApp, templateSends, nil)
			if err != nil {
				t.Fatal(err)
			}
			return p
		}
		p := next()
		learn(5000)
		if !p.Fresh(p.At) {
			t.Error("a higher limit revoked a permit")
		}
		learn(10)
		if p.Fresh(p.At) {
			t.Error("a permit of the higher pace is still fresh")
		}
		if a, b := next(), next(); b.At.Sub(a.At) < 100*time.Millisecond {
			t.Errorf("two permits within %v at ten a second", b.At.Sub(a.At))
		}
	})
}

// TestLearnedOverMidnight: WeChat's count is ignored close to midnight, when its day is unclear.
func TestLearnedOverMidnight(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		l, now := overriding(rdb, nil), at(t, "2026-12-01T23:59:59+08:00")
		l.now = func() int64 { return now }
		if err := l.Learn(t.Context(), testApp, templateSends, Learned{UsedToday: 99}); err != nil {
			t.Fatal(err)
		}
		now += ms(11_000)
		if used := usageOf(t, l, templateSends)[PerDay]; used != 0 {
			t.Errorf("%d used: a count learned at midnight was kept", used)
		}
		if err := l.Learn(t.Context(), testApp, templateSends, Learned{UsedToday: 99}); err != nil {
			t.Fatal(err)
		}
		if used := usageOf(t, l, templateSends)[PerDay]; used != 99 {
			t.Errorf("%d used", used)
		}
	})
}

func TestReserve(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		l := NewLimiter(rdb, DefaultConfig(), func(string) map[string]Limit { return map[string]Limit{templateSends: {PerDay: 10}} },
			WithReserve(func(string) float64 { return 0.2 }))
		for i := range 10 {
			if p := acquire(t, l, templateSends); p.Bulk() != (i < 8) {
				t.Errorf("permit %d of 10: for bulk %v", i+1, p.Bulk())
			}
		}
	})
}
