package ratelimit

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// simLane is a simulated lane of one replica: each of its slots makes a call as soon as it
// has a permit.
type simLane struct {
	slots int
	call  time.Duration
	every time.Duration // minimum interval of calls; 0: as soon as a slot is free
	joins time.Duration
}

// simResult is the result of some lanes in simulated time.
type simResult struct {
	uses      [][]int64 // when each lane used its permits, µs
	takes     int       // commands that requested permits
	givebacks int       // commands that gave permits back
	start     int64     // µs
	span      time.Duration
}

const (
	roundTrip = time.Millisecond
	crowded   = "send:bizsubscribe" // a type that nothing else limits
)

// simulate runs lanes of one limit over a span of simulated time, each on a limiter of its own,
// with the model in place of Redis.
func simulate(t *testing.T, limit Limit, margin float64, span time.Duration, lanes ...simLane) (s simResult) {
	s.uses, s.span = make([][]int64, len(lanes)), span
	synctest.Test(t, func(t *testing.T) {
		s.start = time.Now().UnixMicro()
		ctx, cancel := context.WithTimeout(t.Context(), span)
		defer cancel()
		m, mu, running := newModel(), sync.Mutex{}, sync.WaitGroup{}
		for i, c := range lanes {
			l := NewLimiter(nil, Config{Margin: margin}, func(string) map[string]Limit { return map[string]Limit{crowded: limit} })
			who := string(rune('a' + i))
			l.takeBlock = func(_ context.Context, p plan, q request) (*grant, error) {
				time.Sleep(roundTrip / 2)
				mu.Lock()
				g := m.take(time.Now().UnixMicro(), l.mono(), who, p, q)
				s.takes++
				mu.Unlock()
				g.maxLateness = lateness(limit.PerSecond > 0, limit.PerMinute > 0, margin)
				time.Sleep(roundTrip / 2)
				return g, nil
			}
			l.returnPermits = func(_ context.Context, permits []*Permit, _ bool) error {
				mu.Lock()
				defer mu.Unlock()
				if len(permits) > 0 {
					s.givebacks++
				}
				m.giveBack(time.Now().UnixMicro(), slices.Clone(permits))
				return nil
			}
			running.Go(func() {
				time.Sleep(c.joins)
				c.work(ctx, l, func() {
					mu.Lock()
					defer mu.Unlock()
					s.uses[i] = append(s.uses[i], time.Now().UnixMicro())
				})
				if err := l.Close(context.WithoutCancel(ctx)); err != nil {
					t.Error(err)
				}
			})
		}
		running.Wait()
	})
	return s
}

// work makes a lane's calls until ctx ends. One goroutine acquires permits, as a gate does.
func (c simLane) work(ctx context.Context, l *Limiter, used func()) {
	free := make(chan struct{}, c.slots)
	var calls sync.WaitGroup
	defer calls.Wait()
	for next := time.Now(); ctx.Err() == nil; next = next.Add(c.every) {
		if c.every > 0 {
			time.Sleep(time.Until(next))
		}
		free <- struct{}{}
		p, err := l.AcquireEarly(ctx, testApp, crowded, nil)
		if err != nil {
			return
		}
		calls.Go(func() {
			defer func() { <-free }()
			if p.Wait(ctx) != nil || !p.Fresh(time.Now()) {
				_ = l.Release(ctx, p)
				return
			}
			used()
			time.Sleep(c.call)
		})
	}
}

// perSecond returns the uses per second of a lane after the first two seconds.
func (s simResult) perSecond(lane int) float64 {
	n := 0
	for _, u := range s.uses[lane] {
		if u >= s.start+2*secondMicros {
			n++
		}
	}
	return float64(n) / (s.span - 2*time.Second).Seconds()
}

func (s simResult) commandsAPermit() float64 {
	return float64(s.takes+s.givebacks) / float64(len(slices.Concat(s.uses...)))
}

// A fast lane can use all of a limit. The other lanes use about fifty permits a second: slow
// has one slot, slowWide many slots with long calls, seldom has no more tasks.
func fast() simLane     { return simLane{slots: 64, call: 20 * time.Millisecond} }
func slow() simLane     { return simLane{slots: 1, call: 20 * time.Millisecond} }
func slowWide() simLane { return simLane{slots: 50, call: time.Second} }
func seldom() simLane {
	return simLane{slots: 64, call: time.Millisecond, every: 20 * time.Millisecond}
}

// TestLanesShareByDemand: lanes that together demand more than a limit of 1,000 use nearly all
// of it, and a lane with a small demand gets what it demands.
func TestLanesShareByDemand(t *testing.T) {
	const span, limit = 12 * time.Second, 1000
	for _, tt := range []struct {
		name  string
		lanes []simLane
		all   float64 // minimum uses a second of all lanes
		last  float64 // minimum uses a second of the last lane
	}{
		{"alone", []simLane{fast()}, 975, 975},
		{"two alike", []simLane{fast(), fast()}, 975, 480},
		{"eight alike", slices.Repeat([]simLane{fast()}, 8), 970, 118},
		{"one is slow", []simLane{fast(), slow()}, 965, 40},
		{"one is slow and wide", []simLane{fast(), slowWide()}, 950, 40},
		{"one has few tasks", []simLane{fast(), seldom()}, 965, 49},
		{"one has half", []simLane{fast(), {slots: 20, call: 40 * time.Millisecond}}, 965, 450},
		{"many are slow", append([]simLane{fast()}, slices.Repeat([]simLane{slow()}, 7)...), 950, 38},
		{"all are slow", slices.Repeat([]simLane{slow()}, 8), 8 * 45, 45},
		{"one has a call a second", []simLane{fast(), {slots: 1, call: time.Second}}, 965, 0.6},
		{"one joins", []simLane{fast(), {slots: 64, call: 20 * time.Millisecond, joins: 4 * time.Second}}, 965, 300},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := simulate(t, Limit{PerSecond: limit}, 0.02, span, tt.lanes...)
			uses := slices.Sorted(slices.Values(slices.Concat(s.uses...)))
			most(t, 0, "second", uses, second, limit)
			sum := 0.0
			for i := range tt.lanes {
				sum += s.perSecond(i)
			}
			if sum < tt.all {
				t.Errorf("%.0f a second, want at least %.0f", sum, tt.all)
			}
			if last := s.perSecond(len(tt.lanes) - 1); last < tt.last {
				t.Errorf("the last lane has %.1f a second, want at least %.1f", last, tt.last)
			}
			t.Logf("%.0f a second, the last lane %.1f; %.3f commands a permit", sum, s.perSecond(len(tt.lanes)-1), s.commandsAPermit())
		})
	}
}

// TestCommandsPerPermit: a permit costs at most one or two commands, however far the limit is
// above the use of a lane, and a small fraction of a command when the use is high.
func TestCommandsPerPermit(t *testing.T) {
	const span = 10 * time.Second
	for _, tt := range []struct {
		name   string
		lane   simLane
		limits []Limit
		most   float64 // commands a permit
	}{
		{"one a second", simLane{slots: 9, every: time.Second}, []Limit{{}, {PerSecond: 1000}, {PerMinute: 4000}, {PerDay: 500_000}}, 1.5},
		{"fifty a second", seldom(), []Limit{{PerSecond: 1000}, {PerSecond: 100_000}}, 1.1},
		{"fifty a second", seldom(), []Limit{{}, {PerDay: 500_000}}, 0.15},
		{"fifty a second", seldom(), []Limit{{PerMinute: 1_000_000}}, 0.5},
		{"fifty a second in one slot", slow(), []Limit{{PerSecond: 1000}, {PerSecond: 100_000}}, 1.1},
		{"five thousand a second", simLane{slots: 500, call: 100 * time.Millisecond}, []Limit{{PerSecond: 100_000}, {PerMinute: 1_000_000}, {PerDay: 1_000_000_000}}, 0.05},
		{"all of the limit", fast(), []Limit{{PerSecond: 1000}}, 0.01},
	} {
		for _, limit := range tt.limits {
			t.Run(fmt.Sprintf("%s of %+v", tt.name, limit), func(t *testing.T) {
				s := simulate(t, limit, 0.02, span, tt.lane)
				if cost := s.commandsAPermit(); cost > tt.most {
					t.Errorf("%.3f commands a permit for %d permits, want at most %.2f", cost, len(s.uses[0]), tt.most)
				}
				if len(s.uses[0]) < 9 {
					t.Errorf("only %d permits", len(s.uses[0]))
				}
				t.Logf("%d permits, %d taken, %d given back", len(s.uses[0]), s.takes, s.givebacks)
			})
		}
	}
}
