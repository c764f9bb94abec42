package ratelimit

import (
	"context"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/redistest"
)

// highest is a type's limits as high as they can be: but for a lifetime's, which keeps
// blocks small.
func highest() map[string]Limit {
	return map[string]Limit{links: {PerSecond: maxPerSecond, PerMinute: maxPerMinute, PerDay: maxCount}}
}

// arguments notes how many arguments the longest command had.
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

// leased takes blocks as large as they can be until there are n permits.
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

// TestGiveBackIsOneCommand: ten thousand permits come back in one command of few numbers,
// and all that they counted with them.
func TestGiveBackIsOneCommand(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		l := overriding(rdb, highest())
		now := at(t, noon)
		l.now = func() int64 { return now } // so that the instants are still to come
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
				t.Errorf("%d are used, %d were not given back", n, len(used))
			}
		}
	})
}

// TestGiveBackSplitsPairs chunks the pairs of permits from many buckets, and counts none twice.
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
				t.Errorf("%d are used, 1 was not given back", n)
			}
		}
	})
}

// counted is what the windows longer than a second count.
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

// TestScriptCommandsAreBounded counts the commands inside of the scripts: for the largest block
// and for all that a lane can have in stock they are few, whatever the limits.
func TestScriptCommandsAreBounded(t *testing.T) {
	rdb := redistest.Start(t).Client(t)
	l := overriding(rdb, highest())
	for who := range 50 { // other replicas that ask all the time
		o := overriding(rdb, highest())
		o.id = "other" + strconv.Itoa(who)
		leased(t, o, 1)
	}
	before := callsInside(t, rdb)
	permits := leased(t, l, 1)
	if n := callsInside(t, rdb) - before; n > 40 {
		t.Errorf("a block of %d took %d commands", len(permits), n)
	}
	permits = append(permits, leased(t, l, 4*maxBlock)...)
	before = callsInside(t, rdb)
	if err := l.giveBack(t.Context(), permits, true); err != nil {
		t.Fatal(err)
	}
	if n := callsInside(t, rdb) - before; n > 120 {
		t.Errorf("giving back %d took %d commands", len(permits), n)
	}
}

// callsInside counts what Redis has executed, those in scripts as well.
func callsInside(t *testing.T, rdb redis.UniversalClient) (n int) {
	t.Helper()
	text, err := rdb.Info(t.Context(), "stats").Result()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(text) {
		if count, ok := strings.CutPrefix(strings.TrimSpace(line), "total_commands_processed:"); ok {
			n, err = strconv.Atoi(count)
		}
	}
	if err != nil || n == 0 {
		t.Fatalf("%d commands, %v", n, err)
	}
	return n
}
