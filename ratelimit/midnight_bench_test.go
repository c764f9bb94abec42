package ratelimit

import (
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/redistest"
)

// A midnightRun has replicas use all of a limit across midnight in China, in simulated time
// with the scripts on a real Redis. Pools run in real time, so each replica here repeats what a
// pool does: it requests twice its last block, maxRefillLead before its last instant.
type midnightRun struct {
	replicas int
	limit    Limit
	keeper   windowStore
	plan     plan
	start    int64 // µs, as is all below

	uses []int64 // when the permits are used: at their instants
}

// simReplica is one replica of a midnightRun.
type simReplica struct {
	who  string
	next int64 // time of its next request
	size int
}

const midnightSpan = 6 * time.Minute // half of it before midnight

// run simulates the requests of all replicas.
func (n *midnightRun) run(b *testing.B) {
	b.Helper()
	const roundTrip = 200 // µs
	n.start = noonOf(b) + (12*time.Hour - midnightSpan/2).Microseconds()
	end := n.start + (midnightSpan + 5*second).Microseconds() // a minute's windows are 200 ms more apart
	replicas := make([]*simReplica, n.replicas)
	for i := range replicas {
		replicas[i] = &simReplica{who: string(rune('a' + i)), next: n.start + int64(i)*7000, size: firstBlock}
	}
	for {
		a := slices.MinFunc(replicas, func(a, o *simReplica) int { return int(a.next - o.next) })
		if a.next >= end {
			break
		}
		g := n.keeper.take(a.next, a.next, a.who, n.plan, allOf(a.size))
		if len(g.instants) == 0 {
			a.next += max(roundTrip, min(g.wait, recheckInterval).Microseconds())
			continue
		}
		n.uses = append(n.uses, g.instants...)
		a.size = min(maxBlock, 2*len(g.instants))
		last := g.instants[len(g.instants)-1]
		a.next = max(a.next+roundTrip, last+g.terms[0].spacing-horizonMicros)
		if g.spaced() {
			a.next = max(a.next, last-maxRefillLead.Microseconds())
		}
	}
	slices.Sort(n.uses)
}

func noonOf(b *testing.B) int64 {
	b.Helper()
	t, err := time.Parse(time.RFC3339, noon)
	if err != nil {
		b.Fatal(err)
	}
	return t.UnixMicro()
}

// report writes the metrics: how much of the limit was used, and how often it was exceeded.
func (n *midnightRun) report(b *testing.B) {
	b.Helper()
	span, count := second, n.limit.PerSecond
	if count == 0 {
		span, count = minute, n.limit.PerMinute
	}
	most, over := fullest(n.uses, span.Microseconds(), count)
	midnight := n.start + (midnightSpan / 2).Microseconds()
	firstOfNext, _ := slices.BinarySearch(n.uses, midnight)
	days := [2]int{firstOfNext, len(n.uses) - firstOfNext}
	for _, used := range days {
		over += max(0, used-int(n.limit.PerDay))
	}
	// The share is that of a whole number of windows: up to the first use that is midnightSpan
	// or more after the first one. It is left out when the day's limit was used up.
	if last, _ := slices.BinarySearch(n.uses, n.uses[0]+midnightSpan.Microseconds()); last < len(n.uses) {
		windows := float64(n.uses[last]-n.uses[0]) / float64(span.Microseconds())
		b.ReportMetric(100*float64(last)/windows/float64(count), "%used")
	}
	b.ReportMetric(float64(most), "most/window")
	b.ReportMetric(float64(over), "over")
	b.ReportMetric(float64(days[0]), "day1")
	b.ReportMetric(float64(days[1]), "day2")
	if days[1] > 0 {
		b.ReportMetric(float64(n.uses[firstOfNext]-midnight)/1e6, "s-after-midnight")
	}
}

// fullest returns the largest number of uses in any sliding span, and how many uses exceeded
// the count.
func fullest(uses []int64, span int64, count int) (most, over int) {
	first := 0
	for i, u := range uses {
		for u-uses[first] >= span {
			first++
		}
		most = max(most, i-first+1)
		if i-first+1 > count {
			over++
		}
	}
	return most, over
}

// BenchmarkMidnight shows that the limits hold over midnight, and that no pace is lost there:
// go test -run - -bench Midnight -benchtime 1x ./ratelimit
func BenchmarkMidnight(b *testing.B) {
	for _, c := range []struct {
		name  string
		limit Limit
	}{
		{"100 a second", Limit{PerSecond: 100, PerDay: 500_000}},
		{"4,000 a minute", Limit{PerMinute: 4000, PerDay: 2_000_000}},
		{"100 a second, a day of 11,760 spent at 23:59", Limit{PerSecond: 100, PerDay: 11_760}},
	} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				n := &midnightRun{replicas: 8, limit: c.limit, plan: planOf(0.02, c.limit)}
				rdb := redis.NewClient(&redis.Options{Addr: redistest.Start(b).Addr()})
				n.keeper = newScriptStore(b, rdb)
				n.run(b)
				n.report(b)
				_ = rdb.Close()
			}
		})
	}
}
