package loadtest

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/internal/redisinfo"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/tasks"
)

const (
	memoryTasks = 100_000
	memoryApp   = "wx0123456789abcdef"
	memoryQueue = memoryApp + ":send:subscribe"
)

// memoryBody makes a task whose payload has size bytes.
func memoryBody(tb testing.TB, i, size int) (tasks.Envelope, []byte) {
	tb.Helper()
	e := tasks.Envelope{Type: tasks.TypeSubscribe, App: memoryApp, ID: fmt.Sprintf("order-%06d-shipped", i), Priority: tasks.Urgent} // as the client sets it
	body := func(n int) []byte {
		return fmt.Appendf(nil, `{"touser":"oBench%022d","template_id":"shipping","page":"pages/order/order?from=%s","data":{"thing1":{"value":"订单已发货"}}}`, i, strings.Repeat("x", n))
	}
	for fill := 0; ; {
		e.Body = body(fill)
		payload, err := e.Encode()
		if err != nil {
			tb.Fatal(err)
		}
		if len(payload) == size {
			return e, payload
		}
		fill += size - len(payload)
	}
}

// memoryOf returns the growth of Redis' memory per task over memoryTasks calls of fill, in bytes.
func memoryOf(b *testing.B, rdb *redis.Client, fill func(i int) error) float64 {
	b.Helper()
	before := usedMemory(b, rdb)
	next := make(chan int)
	var producers sync.WaitGroup
	for range 16 {
		producers.Go(func() {
			for i := range next {
				if err := fill(i); err != nil {
					b.Error(err)
				}
			}
		})
	}
	for i := 0; i < memoryTasks && !b.Failed(); i++ {
		next <- i
	}
	close(next)
	producers.Wait()
	return float64(usedMemory(b, rdb)-before) / memoryTasks
}

func usedMemory(b *testing.B, rdb *redis.Client) int64 {
	b.Helper()
	info, err := redisinfo.Read(context.WithoutCancel(b.Context()), rdb)
	if err != nil {
		b.Fatal(err)
	}
	memory, ok := info.Int(redisinfo.Memory)
	if !ok {
		b.Fatal("Redis does not report its memory")
	}
	return memory
}

// memoryRedis starts an empty redis-server with open client connections, which would otherwise count
// as memory of the tasks.
func memoryRedis(b *testing.B, listpack bool) *redis.Client {
	b.Helper()
	rdb := redis.NewClient(&redis.Options{Addr: redistest.Start(b).Addr(), PoolSize: 20, MinIdleConns: 20})
	b.Cleanup(func() { _ = rdb.Close() })
	if listpack {
		if err := rdb.ConfigSet(b.Context(), "hash-max-listpack-value", "1024").Err(); err != nil {
			b.Fatal(err)
		}
	}
	return rdb
}

// BenchmarkMemory measures the bytes per task in Redis: enqueued by asynq alone, enqueued by
// tasks.Client with the same payload and id, and after its end. Redis allocates in size classes that
// differ by up to a quarter, which several payload sizes average out. "listpack" is a Redis with
// hash-max-listpack-value 1024, which stores each asynq task as one listpack.
//
//	go test -run - -bench Memory -benchtime 1x ./internal/loadtest
func BenchmarkMemory(b *testing.B) {
	for _, listpack := range []bool{false, true} {
		for _, size := range []int{300, 350, 400, 500} {
			name := fmt.Sprintf("%dB", size)
			if listpack {
				name += "/listpack"
			}
			b.Run(name, func(b *testing.B) {
				for b.Loop() {
					asynqAlone, ours := waitingByAsynq(b, size, listpack), waitingByClient(b, size, listpack)
					b.ReportMetric(asynqAlone, "asynq-bytes")
					b.ReportMetric(ours, "wxcourier-bytes")
					b.ReportMetric(ours/asynqAlone, "ratio")
				}
			})
		}
	}
	for _, listpack := range []bool{false, true} {
		name := "finished"
		if listpack {
			name += "/listpack"
		}
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				rdb := memoryRedis(b, listpack)
				b.ReportMetric(memoryOf(b, rdb, func(i int) error { return finish(b, rdb, i) }), "bytes")
				b.ReportMetric(float64(rdb.MemoryUsage(b.Context(), ledger.StreamKey(memoryApp)).Val())/memoryTasks, "stream-bytes")
			}
		})
	}
}

func waitingByAsynq(b *testing.B, size int, listpack bool) float64 {
	b.Helper()
	rdb := memoryRedis(b, listpack)
	client := asynq.NewClientFromRedisClient(rdb)
	return memoryOf(b, rdb, func(i int) error {
		e, payload := memoryBody(b, i, size)
		_, err := client.Enqueue(asynq.NewTask(e.Type, payload), asynq.Queue(memoryQueue), asynq.TaskID(e.TaskID()))
		return err
	})
}

func waitingByClient(b *testing.B, size int, listpack bool) float64 {
	b.Helper()
	rdb := memoryRedis(b, listpack)
	client := tasks.NewClient(rdb, tasks.WithOpenIDIndex(false)) // which is measured by itself
	return memoryOf(b, rdb, func(i int) error {
		e, _ := memoryBody(b, i, size)
		_, err := client.Submit(b.Context(), e)
		return err
	})
}

// finish records a task as a worker does.
func finish(b *testing.B, rdb *redis.Client, i int) error {
	b.Helper()
	l := ledger.New(rdb, ledger.Policy{Retention: 24 * time.Hour, StreamMax: memoryTasks, DeadAfter: time.Minute, LostLimit: 3})
	e, _ := memoryBody(b, i, 350)
	ref := ledger.Ref{App: memoryApp, ID: e.ID}
	marking := ledger.MarkRequest{Ref: ref, Queue: memoryQueue, State: "waiting", Enqueued: time.Now(), Digest: "q3J_0b"}
	if err := l.MarkMany(b.Context(), []ledger.MarkRequest{marking})[0].Err; err != nil {
		return err
	}
	opened, err := l.Open(b.Context(), ref, ledger.OpenRequest{Runner: "bench-1", Queue: memoryQueue, Fenced: true, Marked: true})
	if err != nil {
		return err
	}
	result := fmt.Sprintf(`{"id":%q,"app":%q,"type":%q,"outcome":"accepted","errcode":0,"errmsg":"ok","rid":"","attempts":1,"msgid":"3395159288267931652","enqueued_at":"2026-11-21T08:00:00.123456789+08:00","finished_at":"2026-11-21T08:00:01.234567891+08:00"}`, e.ID, e.App, e.Type)
	_, err = l.Settle(b.Context(), ref, ledger.SettleRequest{Outcome: "accepted", Result: []byte(result), Queue: memoryQueue, Generation: opened.Generation})
	return err
}
