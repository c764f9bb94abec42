package tasks_test

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/tasks"
)

// BenchmarkBulkEnqueue compares ways to enqueue the same tasks. Each iteration uses all ways
// in turn, on one redis-server. The ratios are relative to the first: plain asynq from one
// goroutine, which neither checks tasks nor marks ids.
//
//	go test -run - -bench BulkEnqueue -benchtime 5x ./tasks
func BenchmarkBulkEnqueue(b *testing.B) {
	const n = 20_000
	rdb := redistest.Start(b).Client(b)
	client, plain := tasks.NewClient(rdb), asynq.NewClientFromRedisClient(rdb)
	envelopes, made := payloads350(b, n)
	ways := []struct {
		name string
		do   func() error
	}{
		{"asynq1", func() error { return enqueuePlain(plain, made, 1) }},
		{"asynq32", func() error { return enqueuePlain(plain, made, 32) }},
		{"submit16", func() error { return submitEach(b, client, envelopes, 16) }},
		{"SubmitMany", func() error { return firstError(client.SubmitMany(b.Context(), envelopes)) }},
		{"EnqueueMany", func() error { return firstError(client.EnqueueMany(b.Context(), made)) }},
	}
	took, ours, redisCPU := make([]time.Duration, len(ways)), make([]time.Duration, len(ways)), make([]float64, len(ways))
	for b.Loop() {
		for i, way := range ways {
			flush(b, rdb)
			began, us, it := time.Now(), ownCPU(b), cpuOfRedis(b, rdb)
			if err := way.do(); err != nil {
				b.Fatal(way.name, err)
			}
			took[i] += time.Since(began)
			ours[i] += ownCPU(b) - us
			redisCPU[i] += cpuOfRedis(b, rdb) - it
		}
	}
	for i, way := range ways {
		b.ReportMetric(float64(n*b.N)/took[i].Seconds(), way.name+"/s")
		b.ReportMetric(float64(took[0])/float64(took[i]), way.name+"-ratio")
		b.ReportMetric(float64(ours[i].Microseconds())/float64(n*b.N), way.name+"-client-µs")
		b.ReportMetric(redisCPU[i]*1e6/float64(n*b.N), way.name+"-redis-µs")
	}
}

// payloads350 makes tasks whose asynq payloads have about 350 bytes.
func payloads350(b *testing.B, n int) ([]tasks.Envelope, []*asynq.Task) {
	envelopes, made := make([]tasks.Envelope, n), make([]*asynq.Task, n)
	for i := range envelopes {
		envelopes[i] = tasks.Envelope{
			Type: tasks.TypeSubscribe, App: clientApp, ID: fmt.Sprintf("order-%d-shipped", i),
			Body: fmt.Appendf(nil, `{"touser":"oABCDEF0123456789abcdef%06d","template_id":"%s","page":"pages/index/index","data":{"thing1":{"value":"订单已发货"},"time2":{"value":"2026-12-01 08:00"}}}`, i, strings.Repeat("T", 43)),
		}
		task, err := tasks.NewTask(envelopes[i])
		if err != nil {
			b.Fatal(err)
		}
		made[i] = task
	}
	b.ReportMetric(float64(len(made[0].Payload())), "payload-B")
	return envelopes, made
}

func enqueuePlain(client *asynq.Client, made []*asynq.Task, goroutines int) error {
	return spread(len(made), goroutines, func(i int) error {
		_, err := client.Enqueue(made[i])
		return err
	})
}

func submitEach(b *testing.B, client *tasks.Client, envelopes []tasks.Envelope, goroutines int) error {
	return spread(len(envelopes), goroutines, func(i int) error {
		_, err := client.Submit(b.Context(), envelopes[i])
		return err
	})
}

// spread calls do for 0..n-1 from several goroutines.
func spread(n, goroutines int, do func(int) error) error {
	errs := make([]error, goroutines)
	var all sync.WaitGroup
	for g := range goroutines {
		all.Go(func() {
			for i := g; i < n && errs[g] == nil; i += goroutines {
				errs[g] = do(i)
			}
		})
	}
	all.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func firstError(answers []tasks.SubmitResult) error {
	for _, a := range answers {
		if a.Err != nil {
			return a.Err
		}
		if a.Receipt.Already {
			return fmt.Errorf("%s was enqueued before", a.Receipt.ID)
		}
	}
	return nil
}

// ownCPU returns the CPU time of this process.
func ownCPU(b *testing.B) time.Duration {
	var use syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &use); err != nil {
		b.Fatal(err)
	}
	return time.Duration(use.Utime.Nano() + use.Stime.Nano())
}

// cpuOfRedis returns the CPU time of the Redis server, in seconds.
func cpuOfRedis(b *testing.B, rdb redis.UniversalClient) float64 {
	info, err := rdb.Info(b.Context(), "cpu").Result()
	if err != nil {
		b.Fatal(err)
	}
	total := 0.0
	for line := range strings.Lines(info) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		if name == "used_cpu_user" || name == "used_cpu_sys" {
			seconds, err := strconv.ParseFloat(value, 64)
			if err != nil {
				b.Fatal(err)
			}
			total += seconds
		}
	}
	return total
}

func flush(b *testing.B, rdb redis.UniversalClient) {
	if err := rdb.FlushDB(b.Context()).Err(); err != nil {
		b.Fatal(err)
	}
}
