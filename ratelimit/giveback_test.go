package ratelimit

import (
	"context"
	"net"
	"slices"
	"strconv"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/redisinfo"
	"github.com/wxcourier/wxcourier/internal/redistest"
)

// highest returns the highest possible limits of a type, without one of a lifetime, which
// keeps blocks small.
func highest() map[string]Limit {
	return map[string]Limit{links: {PerSecond: maxPerSecond, PerMinute: maxPerMinute, PerDay: maxCount}}
}

// arguments is a hook that counts commands, and the arguments of the longest one.
type arguments struct {
	mu   sync.Mutex
	most int // guarded by mu
	sent int // guarded by mu
}

func (a *arguments) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (a *arguments) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		a.mu.Lock()
		a.most, a.sent = max(a.most, len(cmd.Args())), a.sent+1
		a.mu.Unlock()
		return next(ctx, cmd)
	}
}

func (a *arguments) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// leased takes the largest possible blocks until there are n permits.
func leased(t *testing.T, l *Limiter, n int) (permits []*Permit) {
	t.Helper()
	for len(permits) < n {
		g, err := l.take(t.Context(), l.planFor(testApp, links), allOf(maxBlock))
		if err != nil {
			t.Fatal(err)
		}
		if len(g.instants) == 0 {
			t.Fatalf("%d permits, then a wait of %v", len(permits), g.wait)
		}
		permits = append(permits, l.permits(g)...)
	}
	return permits
}

// TestGiveBackIsOneCommand: one short command gives back ten thousand permits with all their
// counts.
func TestGiveBackIsOneCommand(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		l := overriding(rdb, highest())
		now := at(t, noon)
		l.now = func() int64 { return now } // the instants stay in the future
		permits := leased(t, l, 10_000)
		used := leased(t, l, 100)
		var a arguments
		rdb.AddHook(&a)
		if err := l.giveBack(t.Context(), permits, true); err != nil {
			t.Fatal(err)
		}
		if a.sent > 2 || a.most > 60 {
			t.Errorf("%d commands, of up to %d arguments", a.sent, a.most)
		}
		for _, n := range counted(t, l) {
			if n != int64(len(used)) {
				t.Errorf("%d are used, want the %d that were not given back", n, len(used))
			}
		}
	})
}

// TestGiveBackSplitsPairs: permits of many buckets go in several commands, and none is counted
// twice.
func TestGiveBackSplitsPairs(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		l := overriding(rdb, map[string]Limit{links: {PerMinute: 1000, PerDay: 1000}})
		now := at(t, noon)
		l.now, l.mono = func() int64 { return now }, func() int64 { return now }
		var permits []*Permit
		for range 3 * maxPairs {
			now += bucket.Microseconds()
			permits = append(permits, takeOne(t, l))
		}
		permits = slices.Delete(permits, 5, 6)
		var a arguments
		rdb.AddHook(&a)
		for i := range permits {
			permits[i].grant.terms[0].seq = permits[0].grant.terms[0].seq // on the same terms
		}
		if err := l.giveBack(t.Context(), permits, false); err != nil {
			t.Fatal(err)
		}
		if a.sent < 3 || a.sent > 4 || a.most > 3*(3+7)+16+4*maxPairs {
			t.Errorf("%d commands, of up to %d arguments", a.sent, a.most)
		}
		for _, n := range counted(t, l) {
			if n != 1 {
				t.Errorf("%d are used, want the 1 that was not given back", n)
			}
		}
	})
}

// counted returns the usage of the windows longer than a second.
func counted(t *testing.T, l *Limiter) (all []int64) {
	t.Helper()
	usage, err := l.Usage(t.Context(), testApp, links)
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range usage {
		if u.Window != PerSecond {
			all = append(all, u.Used)
		}
	}
	return all
}

func takeOne(t *testing.T, l *Limiter) *Permit {
	t.Helper()
	d, err := l.Try(t.Context(), testApp, links)
	if err != nil || d.Permit == nil {
		t.Fatalf("%+v, %v", d, err)
	}
	return d.Permit
}

// TestScriptCommandsAreBounded counts the commands that the scripts run: few for the largest
// block and for the largest stock of a lane, whatever the limits.
func TestScriptCommandsAreBounded(t *testing.T) {
	rdb := redistest.Start(t).Client(t)
	l := overriding(rdb, highest())
	for who := range 50 { // other replicas that share the rows
		o := overriding(rdb, highest())
		o.id = "other" + strconv.Itoa(who)
		leased(t, o, 1)
	}
	before := callsInside(t, rdb)
	permits := leased(t, l, 1)
	if n := callsInside(t, rdb) - before; n > 40 {
		t.Errorf("taking %d permits ran %d commands", len(permits), n)
	}
	permits = append(permits, leased(t, l, 4*maxBlock)...)
	before = callsInside(t, rdb)
	if err := l.giveBack(t.Context(), permits, true); err != nil {
		t.Fatal(err)
	}
	if n := callsInside(t, rdb) - before; n > 120 {
		t.Errorf("giving back %d permits ran %d commands", len(permits), n)
	}
}

// callsInside returns the number of commands that Redis has run, including those of scripts.
func callsInside(t *testing.T, rdb redis.UniversalClient) int64 {
	t.Helper()
	info, err := redisinfo.Read(t.Context(), rdb, "stats")
	n, ok := info.Int(redisinfo.Commands)
	if !ok || n == 0 {
		t.Fatalf("Redis does not report its commands: %v", err)
	}
	return n
}
