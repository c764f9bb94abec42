package ratelimit

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/hold"
	"github.com/wxcourier/wxcourier/internal/redistest"
)

const (
	links         = "scheme:generate" // a limit per second, and a shared limit per day
	templateSends = "send:template"   // only a limit per day
)

func acquire(t *testing.T, l *Limiter, typ string) *Permit {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	p, err := l.Acquire(ctx, testApp, typ, nil)
	if err != nil {
		t.Fatalf("acquire %s: %v", typ, err)
	}
	return p
}

func closed(t *testing.T, l *Limiter) {
	t.Helper()
	if err := l.Close(t.Context()); err != nil {
		t.Errorf("close: %v", err)
	}
}

// TestUnusedPermitsAreGivenBack stops the use of a replica's permits in several ways, and
// checks the usage that another replica reads.
func TestUnusedPermitsAreGivenBack(t *testing.T) {
	ends := map[string]func(t *testing.T, l *Limiter){
		"the limiter is closed": closed,
		"the lane has no tasks": func(t *testing.T, l *Limiter) {
			for _, typ := range []string{links, templateSends} {
				if err := l.ReturnUnused(t.Context(), testApp, typ); err != nil {
					t.Error(err)
				}
			}
		},
		"a hold is set": func(t *testing.T, l *Limiter) {
			set(t, l, hold.Hold{App: testApp, Scope: hold.TemplateScope("T"), Reason: "by hand"})
		},
		"the permits go stale": func(*testing.T, *Limiter) {},
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
				l, other := overriding(rdb, nil), overriding(rdb, nil)
				for range 9 {
					acquire(t, l, links)
					acquire(t, l, templateSends)
				}
				end(t, l)
				redistest.Until(t, 3*time.Second, "unused permits are given back", func() bool {
					return usageOf(t, other, links)[PerDay] == 9 && usageOf(t, other, templateSends)[PerDay] == 9
				})
				if n := l.unusedCount(testApp, []string{links, templateSends}); n != 0 {
					t.Errorf("the limiter still holds %d", n)
				}
			})
		})
	}
}

func TestClosedLimiter(t *testing.T) {
	_, rdb := redistest.Mini(t)
	l := overriding(rdb, nil)
	p := acquire(t, l, templateSends)
	closed(t, l)
	closed(t, l)
	if _, err := l.Acquire(t.Context(), testApp, templateSends, nil); !errors.Is(err, ErrClosed) {
		t.Errorf("acquire: %v", err)
	}
	if err := l.Release(t.Context(), p); err != nil || usageOf(t, l, templateSends)[PerDay] != 0 {
		t.Errorf("release after Close: %v", err)
	}
}

// TestDeadReplica abandons a replica in the middle of its blocks. The others get its pace as
// soon as its instants have passed; of the day it takes one block with it, at most.
func TestDeadReplica(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		dead, other := overriding(rdb, nil), overriding(rdb, nil)
		for range 30 {
			acquire(t, dead, links)
		}
		p := acquire(t, other, links)
		if late := time.Duration(p.instant-p.grant.now) * time.Microsecond; late > horizon {
			t.Errorf("the first instant of the other replica is %v away", late)
		}
		share := int64(blockDuration / spacing(100, 0.05))
		if used := usageOf(t, other, links)[PerDay]; used > 30+1+2*share {
			t.Errorf("31 calls count as %d of the day; a block is %d", used, share)
		}
		closed(t, dead)
	})
}

func TestNewReplicaGetsItsShare(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		ctx, stop := context.WithCancel(t.Context())
		old, done := overriding(rdb, nil), make(chan struct{})
		go func() {
			defer close(done)
			for ctx.Err() == nil {
				_, _ = old.Acquire(ctx, testApp, links, nil)
			}
		}()
		redistest.Until(t, 5*time.Second, "the first replica leases large blocks", func() bool { return old.unusedCount(testApp, []string{links}) > 10 })
		l := overriding(rdb, nil)
		start := time.Now()
		for range 40 { // its share of 95 a second is 47
			acquire(t, l, links)
		}
		if took := time.Since(start); took > 2*time.Second {
			t.Errorf("40 permits took %v", took)
		}
		stop()
		<-done
		closed(t, l)
		closed(t, old)
	})
}

// TestHoldStopsLeasedPermits: with the message at once, without it at the end of the block.
func TestHoldStopsLeasedPermits(t *testing.T) {
	for _, message := range []bool{true, false} {
		redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
			l, other := overriding(rdb, nil), overriding(rdb, nil)
			var last *Permit
			for range 30 {
				last = acquire(t, l, links)
			}
			set(t, other, hold.Hold{App: testApp, Scope: hold.WholeApp, Reason: "by hand"})
			within := horizon + last.grant.maxLateness
			if message {
				if err := l.Revoke(t.Context(), testApp); err != nil {
					t.Fatal(err)
				}
				if last.Fresh(time.Now()) {
					t.Error("a permit that was handed out is still fresh")
				}
				within = 0
			}
			start := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), horizon+300*time.Millisecond)
			defer cancel()
			for {
				p, err := l.Acquire(ctx, testApp, links, nil)
				if err != nil {
					return
				}
				if since := p.At.Sub(start); since > within {
					t.Fatalf("with message %v: a permit for %v after the hold", message, since)
				}
			}
		})
	}
}

func TestReleasedPermitIsReused(t *testing.T) {
	_, rdb := redistest.Mini(t)
	l := overriding(rdb, map[string]Limit{links: {PerSecond: 2}})
	acquire(t, l, links)
	p, err := l.AcquireEarly(t.Context(), testApp, links, nil)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := l.Release(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	if again := acquire(t, l, links); again.instant != p.instant {
		t.Errorf("the next instant is %d µs later", again.instant-p.instant)
	}
	if err := p.Wait(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestAcquireEarly(t *testing.T) {
	_, rdb := redistest.Mini(t)
	l := overriding(rdb, map[string]Limit{links: {PerSecond: 5}})
	acquire(t, l, links)
	p, err := l.AcquireEarly(t.Context(), testApp, links, nil)
	if err != nil {
		t.Fatal(err)
	}
	if left := time.Until(p.At); left > headStart {
		t.Errorf("%v before its instant", left)
	}
	if err := p.Wait(t.Context()); err != nil || time.Now().Before(p.At) {
		t.Errorf("Wait returned before the instant: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := (&Permit{At: time.Now().Add(time.Hour)}).Wait(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("an ended context: %v", err)
	}
}

// TestBlocksGrowWithDemand: a lane with a high demand sends few commands, one with a low
// demand leases small blocks.
func TestBlocksGrowWithDemand(t *testing.T) {
	for _, typ := range []string{templateSends, "send:bizsubscribe", "seccheck:text"} { // a limit per day, none, one per minute
		_, rdb := redistest.Mini(t)
		var sent commands
		rdb.AddHook(&sent)
		l := overriding(rdb, nil)
		acquire(t, l, typ)
		if n := l.unusedCount(testApp, []string{typ}); n >= firstBlock {
			t.Errorf("%s: %d permits are leased after one call", typ, n)
		}
		for range 1000 {
			acquire(t, l, typ)
		}
		if n := sent.n.Load(); n > 50 {
			t.Errorf("%s: %d commands for 1001 permits", typ, n)
		}
		closed(t, l)
	}
}

// TestSharesByDemand has lanes of a limit of 1,000 request permits, and checks the block of the
// last one: how many permits, and how far apart.
func TestSharesByDemand(t *testing.T) {
	const all = maxPerSecond
	for _, tt := range []struct {
		name    string
		demands []int
		want    int   // permits
		spread  int64 // µs between them
	}{
		{"what the other lane leaves", []int{50, all}, 332, 1052},
		{"its demand", []int{all, 50}, 17, 20_000},
		{"an equal part", []int{all, all, all}, 116, 3000},
		{"an equal part of what two lanes leave", []int{100, 300, all, all}, 105, 3333},
		{"its demand, as there is enough", []int{100, 300, 400}, 140, 0},
		{"alone", []int{all}, 350, 0},
		{"little", []int{all, 1}, 1, 1_000_000},
	} {
		t.Run(tt.name, func(t *testing.T) {
			eachStore(t, func(t *testing.T, k windowStore) {
				now, p := at(t, noon), planOf(0, Limit{PerSecond: 1000})
				var g *grant
				for i, demand := range tt.demands {
					n := 1
					if i == len(tt.demands)-1 {
						n = 999
					}
					g = k.take(now, now, string(rune('a'+i)), p, request{n: n, demand: demand})
				}
				if len(g.instants) != tt.want || g.spread != tt.spread {
					t.Fatalf("%d permits, %d µs apart; want %d, %d µs apart", len(g.instants), g.spread, tt.want, tt.spread)
				}
				last := g.instants[len(g.instants)-1] - g.instants[0]
				if due := max(tt.spread, 1000) * int64(tt.want-1); tt.want > 1 && (last-due > 2*cell.Microseconds() || due-last > 2*cell.Microseconds()) {
					t.Errorf("spread over %d µs, want about %d", last, due)
				}
			})
		})
	}
}

// TestSlotsBetweenSpreadInstantsAreUsed: the slots that one lane's instants leave free go to the
// next request, and no slot is granted twice.
func TestSlotsBetweenSpreadInstantsAreUsed(t *testing.T) {
	eachStore(t, func(t *testing.T, k windowStore) {
		now, p, all := at(t, noon), planOf(0, Limit{PerSecond: 1000}), []int64(nil)
		for _, who := range []string{"a", "b", "a", "b", "a", "b", "a", "b"} {
			all = append(all, k.take(now, now, who, p, allOf(999)).instants...)
		}
		slices.Sort(all)
		for i := 1; i < len(all); i++ {
			if apart := all[i] - all[i-1]; apart != 1000 {
				t.Fatalf("instants %d and %d of %d are %d µs apart", i-1, i, len(all), apart)
			}
		}
		if first, last := all[0]-now, all[len(all)-1]-now; first != 0 || last != horizonMicros {
			t.Errorf("from %d to %d µs", first, last)
		}
	})
}

func TestShares(t *testing.T) {
	for _, tt := range []struct {
		name  string
		limit Limit
		order []string // the replicas in the order of their requests; the share of the last one is checked
		n     int
		want  int
	}{
		{"alone", Limit{PerSecond: 100}, []string{"a"}, 99, 35},
		{"one of two", Limit{PerSecond: 100}, []string{"b", "a"}, 99, 17},
		{"one of eight", Limit{PerSecond: 1000}, []string{"b", "c", "d", "e", "f", "g", "h", "a"}, 99, 43},
		{"no more than requested", Limit{PerSecond: 1000}, []string{"a"}, 5, 5},
		{"one at least", Limit{PerSecond: 1}, []string{"a"}, 99, 1},
		{"a quarter of what is left of a minute", Limit{PerMinute: 80}, []string{"a"}, 99, 20},
		{"a quarter of what is left of a day", Limit{PerDay: 40}, []string{"a"}, 99, 10},
		{"few of a lifetime", Limit{Total: 1000}, []string{"a"}, 99, maxTotalBlock},
		{"no limit", Limit{}, []string{"a"}, 99, 99},
	} {
		t.Run(tt.name, func(t *testing.T) {
			eachStore(t, func(t *testing.T, k windowStore) {
				now, p, got := at(t, noon), planOf(0, tt.limit), 0
				for i, who := range tt.order {
					n := 1
					if i == len(tt.order)-1 {
						n = tt.n
					}
					got = len(k.take(now, now, who, p, allOf(n)).instants)
				}
				if got != tt.want {
					t.Errorf("%d, want %d", got, tt.want)
				}
			})
		})
	}
}

// TestWakeDuringARefill: the wake comes while the reply that demands a delay is on its way. The
// delay does not count, and Redis is queried again at once.
func TestWakeDuringARefill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLimiter(nil, DefaultConfig(), nil)
		queries := 0
		l.takeBlock = func(_ context.Context, p plan, _ request) (*grant, error) {
			queries++
			time.Sleep(time.Second)
			if queries == 1 { // the hold was lifted after the script ran
				return &grant{plan: p, wait: time.Hour}, nil
			}
			return &grant{plan: p, instants: []int64{l.mono()}, bulk: 1}, nil
		}
		wake := make(chan struct{}, 1)
		time.AfterFunc(500*time.Millisecond, func() { wake <- struct{}{} })
		start := time.Now()
		if _, err := l.Acquire(t.Context(), testApp, crowded, wake); err != nil {
			t.Fatal(err)
		}
		if waited := time.Since(start); queries != 2 || waited > 2*time.Second {
			t.Errorf("%d queries, a permit after %v", queries, waited)
		}
		l.returnPermits = func(context.Context, []*Permit, bool) error { return nil }
		if err := l.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
