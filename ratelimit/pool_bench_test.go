package ratelimit

import (
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
)

// BenchmarkAcquireInStock measures the cost of a permit that is leased already, without Redis.
func BenchmarkAcquireInStock(b *testing.B) {
	m := miniredis.RunT(b)
	rdb := redis.NewClient(&redis.Options{Addr: m.Addr()})
	defer func() { _ = rdb.Close() }()
	l := NewLimiter(rdb, DefaultConfig(), func(string) map[string]Limit {
		return map[string]Limit{"send:template": {PerDay: maxCount}}
	})
	g, err := l.take(b.Context(), l.planFor(testApp, "send:template"), request{n: 1})
	if err != nil || len(g.instants) != 1 {
		b.Fatalf("%+v, %v", g, err)
	}
	q := l.poolOf(testApp, "send:template")
	b.ReportAllocs()
	for b.Loop() {
		if len(q.stock) == 0 {
			b.StopTimer()
			stockUp(q, g)
			b.StartTimer()
		}
		if _, err := l.Acquire(b.Context(), testApp, "send:template", nil); err != nil {
			b.Fatal(err)
		}
	}
	q.stock = nil // made up by the benchmark: must not be given back
	if err := l.Close(b.Context()); err != nil {
		b.Fatal(err)
	}
}

// stockUp fills a pool with permits that are due and never go stale.
func stockUp(q *pool, g *grant) {
	endless := *g
	endless.maxLateness = time.Hour
	q.mu.Lock()
	defer q.mu.Unlock()
	for range 10_000 {
		q.stock = append(q.stock, &Permit{At: time.Now(), grant: &endless, pool: q, revocations: q.revocations.Load(), instant: g.instants[0]})
	}
}
