package loadtest_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/configs"
	"github.com/wxcourier/wxcourier/internal/asynqwire"
	"github.com/wxcourier/wxcourier/internal/e2e"
	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/internal/loadtest"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/tasks"
)

func TestMain(m *testing.M) { os.Exit(e2e.Run(m)) }

// options returns the options of a short run on a shared Redis.
func options(t *testing.T, addr string) loadtest.Options {
	t.Helper()
	path, err := e2e.Binary()
	if err != nil {
		t.Fatal(err)
	}
	target, err := loadtest.FindRedis(t.Context(), addr, configs.Redis{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(target.Close)
	return loadtest.Options{
		Self: path, Target: target, Tasks: 300, Type: tasks.TypeSubscribe, Latency: time.Millisecond,
		Replicas: 2, Concurrency: 8, Steady: 300 * time.Millisecond,
	}
}

// otherAppData writes data of another app, which a run must not change.
func otherAppData(t *testing.T, rdb redis.UniversalClient) {
	t.Helper()
	client := tasks.NewClient(rdb)
	for i := range 50 {
		_, err := client.Submit(t.Context(), tasks.Envelope{
			Type: tasks.TypeCustom, App: "wx0123456789abcdef", ID: fmt.Sprint("theirs-", i), Batch: "b",
			Body: []byte(`{"touser":"o","msgtype":"text","text":{"content":"x"}}`),
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	rdb.Set(t.Context(), "somebody:else", 1, 0)
}

// content returns the dump of each key.
func content(t *testing.T, rdb redis.UniversalClient) map[string]string {
	t.Helper()
	all := make(map[string]string)
	keys, err := rdb.Keys(t.Context(), "*").Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range keys {
		switch key {
		case asynqwire.Servers, asynqwire.Workers: // asynq also writes them empty
			continue
		case asynqwire.Queues, ledger.AppsKey: // sets, whose order varies
			members := rdb.SMembers(t.Context(), key).Val()
			slices.Sort(members)
			all[key] = strings.Join(members, " ")
			continue
		}
		all[key] = rdb.Dump(t.Context(), key).Val()
	}
	return all
}

func unchanged(t *testing.T, rdb redis.UniversalClient, before map[string]string) {
	t.Helper()
	after := content(t, rdb)
	for key := range after {
		if _, there := before[key]; !there {
			t.Errorf("the run left %s", key)
		}
	}
	for key, value := range before {
		if after[key] != value {
			t.Errorf("the run changed %s", key)
		}
	}
	for _, set := range []string{asynqwire.Servers, asynqwire.Workers} {
		if left := rdb.ZRange(t.Context(), set, 0, -1).Val(); len(left) > 0 {
			t.Errorf("%s holds %v", set, left)
		}
	}
}

func TestRunMeasuresAndLeavesNothing(t *testing.T) {
	server := redistest.Start(t)
	rdb := server.Client(t)
	otherAppData(t, rdb)
	before := content(t, rdb)
	report, err := loadtest.Run(t.Context(), options(t, server.Addr()))
	if err != nil {
		t.Fatal(err)
	}
	all := map[tasks.Outcome]int{tasks.OutcomeAccepted: 300}
	if report.Enqueue.Tasks != 300 || !maps.Equal(report.Drain.Outcomes, all) {
		t.Errorf("%+v", report)
	}
	end := report.EndToEnd
	if end.Tasks < 1 || end.Outcomes[tasks.OutcomeAccepted] != end.Tasks {
		t.Errorf("end to end: %+v", end)
	}
	// The latency exceeds that of the stand-in, and the quantiles are in order.
	if end.P50 < 0.001 || end.P99 < end.P50 || end.Slowest < end.P99 {
		t.Errorf("p50 %v, p99 %v, slowest %v", end.P50, end.P99, end.Slowest)
	}
	for name, value := range map[string]loadtest.Figure{
		"enqueue rate": report.Enqueue.Rate, "drain rate": report.Drain.Rate, "end to end rate": end.Rate,
		"producer": report.Enqueue.ProducerCPU, "workers": report.Drain.WorkerCPU, "workers end to end": end.WorkerCPU,
		"sandbox": report.SandboxCPU, "Redis commands": report.Drain.RedisCommands, "Redis memory": report.Enqueue.RedisMemory,
		"peak": report.Drain.WorkerPeak,
	} {
		if !(value > 0) { // also false for NaN
			t.Errorf("%s: %v", name, value)
		}
	}
	if peak := report.Drain.WorkerPeak; peak < 5<<20 || peak > 1<<30 {
		t.Errorf("a worker of %v bytes", peak)
	}
	if report.Drain.RedisCommands < 5 { // asynq alone uses more
		t.Errorf("%v Redis commands a task", report.Drain.RedisCommands)
	}
	unchanged(t, rdb, before)
}

// TestInterruptedRunLeavesNothing interrupts a run in each phase.
func TestInterruptedRunLeavesNothing(t *testing.T) {
	server := redistest.Start(t)
	rdb := server.Client(t)
	otherAppData(t, rdb)
	before := content(t, rdb)
	for _, phase := range []string{"enqueue: ", "drain: ", "end to end: the", "end to end: 0"} {
		t.Run(phase, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			o := options(t, server.Addr())
			o.Steady = time.Hour
			o.Tasks = 2000
			var once sync.Once
			reached := false
			o.Progress = func(text string) {
				if strings.HasPrefix(text, phase) {
					once.Do(func() { reached = true; cancel() })
				}
			}
			if _, err := loadtest.Run(ctx, o); !errors.Is(err, loadtest.ErrInterrupted) {
				t.Errorf("%v", err)
			}
			if !reached {
				t.Error("the phase was not reached")
			}
			unchanged(t, rdb, before)
		})
	}
}

// TestLimitIsUsed: the drain stays within the limit, and the report has the used share.
func TestLimitIsUsed(t *testing.T) {
	o := options(t, redistest.Start(t).Addr())
	o.Limit, o.Tasks = 100, 200
	report, err := loadtest.Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if used := report.Drain.LimitUsed; !(used > 0) || used > 1.05 {
		t.Errorf("%v of the limit", used)
	}
	if report.EndToEnd.Offered > 90 {
		t.Errorf("%v a second were offered", report.EndToEnd.Offered)
	}
}

// TestWorkerThatCannotStart: the error contains the worker's output.
func TestWorkerThatCannotStart(t *testing.T) {
	server := redistest.Start(t, "--maxmemory-policy", "allkeys-lru")
	rdb := server.Client(t)
	before := content(t, rdb)
	_, err := loadtest.Run(t.Context(), options(t, server.Addr()))
	if err == nil || !strings.Contains(err.Error(), "exited too early") || !strings.Contains(err.Error(), "maxmemory-policy") {
		t.Errorf("%v", err)
	}
	unchanged(t, rdb, before)
}
