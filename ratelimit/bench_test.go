package ratelimit

import (
	"context"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/redistest"
)

// commands is a hook that counts the commands that a client sends.
type commands struct{ n atomic.Int64 }

func (c *commands) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (c *commands) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		c.n.Add(1)
		return next(ctx, cmd)
	}
}

func (c *commands) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		c.n.Add(int64(len(cmds)))
		return next(ctx, cmds)
	}
}

// replicaLoad is a number of replicas that use permits as fast as possible.
type replicaLoad struct {
	typ      string
	limit    Limit
	margin   float64
	replicas int
	span     time.Duration
}

// run returns when the permits were used, in µs, and the number of commands sent.
func (s replicaLoad) run(b *testing.B, connect func() redis.UniversalClient) (uses []int64, sent int64) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), s.span)
	defer cancel()
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		count commands
		late  atomic.Int64
	)
	start := time.Now()
	for range s.replicas {
		rdb := connect()
		rdb.AddHook(&count)
		l := NewLimiter(rdb, Config{Margin: s.margin}, func(string) map[string]Limit { return map[string]Limit{s.typ: s.limit} })
		wg.Go(func() {
			var calls sync.WaitGroup
			for ctx.Err() == nil {
				p, err := l.AcquireEarly(ctx, testApp, s.typ, nil)
				if err != nil {
					break
				}
				calls.Go(func() {
					if p.Wait(ctx) != nil || !p.Fresh(time.Now()) {
						late.Add(1)
						_ = l.Release(ctx, p)
						return
					}
					mu.Lock()
					defer mu.Unlock()
					uses = append(uses, time.Since(start).Microseconds())
				})
			}
			calls.Wait()
			if err := l.Close(context.WithoutCancel(ctx)); err != nil {
				b.Error(err)
			}
		})
	}
	wg.Wait()
	slices.Sort(uses)
	b.ReportMetric(float64(late.Load()), "late")
	return uses, count.n.Load()
}

// BenchmarkPermits measures the commands per permit and the used share of a limit, on a real
// Redis: go test -run - -bench Permits -benchtime 1x ./ratelimit
func BenchmarkPermits(b *testing.B) {
	for _, s := range []replicaLoad{
		{"scheme:generate", Limit{PerSecond: 1000}, 0.02, 1, 10 * time.Second},
		{"scheme:generate", Limit{PerSecond: 1000}, 0.02, 8, 10 * time.Second},
		{"scheme:generate", Limit{PerSecond: 100}, 0.02, 1, 10 * time.Second},
		{"scheme:generate", Limit{PerSecond: 100}, 0.02, 2, 10 * time.Second},
		{"scheme:generate", Limit{PerSecond: 100}, 0.02, 4, 10 * time.Second},
		{"scheme:generate", Limit{PerSecond: 100}, 0.02, 8, 10 * time.Second},
		{"seccheck:text", Limit{PerMinute: 1_000_000, PerDay: 1_000_000_000}, 0.02, 1, 2 * time.Second},
		{"send:template", Limit{PerDay: 1_000_000_000}, 0.02, 2, 2 * time.Second},
	} {
		name := strconv.Itoa(max(s.limit.PerSecond, s.limit.PerMinute/60)) + "/s×" + strconv.Itoa(s.replicas)
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				addr := redistest.Start(b).Addr()
				uses, sent := s.run(b, func() redis.UniversalClient {
					rdb := redis.NewClient(&redis.Options{Addr: addr})
					b.Cleanup(func() { _ = rdb.Close() })
					return rdb
				})
				span := float64(uses[len(uses)-1]-uses[0]) / 1e6
				b.ReportMetric(float64(len(uses)-1)/span, "permits/s")
				b.ReportMetric(float64(sent)/float64(len(uses)), "commands/permit")
				if s.limit.PerSecond > 0 {
					b.ReportMetric(100*float64(len(uses)-1)/span/float64(s.limit.PerSecond), "%used")
					b.ReportMetric(float64(densest(uses)), "most/s")
				}
			}
		})
	}
}

// densest returns the largest number of uses in any sliding second.
func densest(uses []int64) (most int) {
	first := 0
	for i, u := range uses {
		for u-uses[first] >= secondMicros {
			first++
		}
		most = max(most, i-first+1)
	}
	return most
}
