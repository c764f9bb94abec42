package tasks_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/internal/redisinfo"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/tasks"
)

func messages(n int) []tasks.Envelope {
	many := make([]tasks.Envelope, n)
	for i := range many {
		many[i] = message(fmt.Sprintf("m%d", i))
	}
	return many
}

// countAnswers counts the results: newly enqueued, enqueued before, and failed.
func countAnswers(answers []tasks.SubmitResult) (fresh, already, failed int) {
	for _, a := range answers {
		switch {
		case a.Err != nil:
			failed++
		case a.Receipt.Already:
			already++
		default:
			fresh++
		}
	}
	return fresh, already, failed
}

func waiting(t *testing.T, rdb redis.UniversalClient) int64 {
	t.Helper()
	return pending(t, rdb, tasks.Urgent) + pending(t, rdb, tasks.Bulk)
}

// pipelineHook is called with the commands of each pipeline before they are sent. If it
// returns an error, the pipeline fails with it and nothing is sent.
type pipelineHook func(cmds []redis.Cmder) error

func (pipelineHook) DialHook(next redis.DialHook) redis.DialHook { return next }

func (pipelineHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (h pipelineHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if err := h(cmds); err != nil {
			for _, cmd := range cmds {
				cmd.SetErr(err)
			}
			return err
		}
		return next(ctx, cmds)
	}
}

// TestManyProducersOfTheSameIDs: producers enqueue the same ids at the same time, in bulk and
// one by one, with different priorities. Each id is enqueued once, and one producer gets a
// receipt without Already.
func TestManyProducersOfTheSameIDs(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		const n = 700 // more than a chunk
		var fresh atomic.Int64
		var producers sync.WaitGroup
		for producer := range 8 {
			many := messages(n)
			for i := range many {
				if (producer+i)%2 == 0 {
					many[i].Priority = tasks.Bulk
				}
			}
			client := tasks.NewClient(rdb)
			producers.Go(func() {
				answers := make([]tasks.SubmitResult, n)
				if producer%4 == 3 {
					for i := range many {
						answers[i].Receipt, answers[i].Err = client.Submit(t.Context(), many[i])
					}
				} else {
					answers = client.SubmitMany(t.Context(), many)
				}
				first, _, failed := countAnswers(answers)
				if fresh.Add(int64(first)); failed > 0 {
					t.Errorf("producer %d: %d errors", producer, failed)
				}
			})
		}
		producers.Wait()
		if fresh.Load() != n || waiting(t, rdb) != n {
			t.Errorf("%d receipts without Already, %d tasks in the queues, want %d", fresh.Load(), waiting(t, rdb), n)
		}
	})
}

// TestAProducerDiesBetweenTheMarksAndTheQueue: repeating the call enqueues the tasks whose ids
// are only marked, with their first priority.
func TestAProducerDiesBetweenTheMarksAndTheQueue(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		dies := errors.New("the producer dies")
		dying := redis.NewClient(rdb.(*redis.Client).Options())
		defer func() { _ = dying.Close() }()
		dying.AddHook(pipelineHook(func(cmds []redis.Cmder) error {
			if strings.Contains(fmt.Sprint(cmds[0].Args()...), "asynq:{") {
				return dies
			}
			return nil
		}))
		for i, a := range tasks.NewClient(dying).SubmitMany(t.Context(), messages(120)) {
			if !errors.Is(a.Err, dies) || a.Receipt != (tasks.Receipt{}) {
				t.Fatalf("%d: %+v, %v", i, a.Receipt, a.Err)
			}
		}
		if r, err := tasks.NewClient(rdb).Result(t.Context(), clientApp, "m7"); err != nil || r.State != tasks.StateWaiting {
			t.Fatalf("not even marked: %+v, %v", r, err)
		}
		again := messages(120)
		for i := range again {
			again[i].Priority = tasks.Bulk
		}
		if fresh, _, _ := countAnswers(tasks.NewClient(rdb).SubmitMany(t.Context(), again)); fresh != 120 {
			t.Errorf("%d of 120 are new when they are repeated", fresh)
		}
		if n := pending(t, rdb, tasks.Urgent); n != 120 {
			t.Errorf("%d of 120 are in the queue that they were marked with", n)
		}
	})
}

// TestSubmitManyTwice: the same tasks are submitted again while they wait, when they are done,
// and when their records have expired but asynq's archive has copies.
func TestSubmitManyTwice(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		client := tasks.NewClient(rdb)
		many := messages(60)
		for i := range many {
			many[i].Batch = "sale"
		}
		client.SubmitMany(t.Context(), many)
		if fresh, already, _ := countAnswers(client.SubmitMany(t.Context(), many)); fresh != 0 || already != 60 {
			t.Errorf("while they wait: %d new, %d enqueued before", fresh, already)
		}
		if counts, err := client.Batch(t.Context(), clientApp, "sale"); err != nil || counts["total"] != 60 {
			t.Errorf("the batch: %v, %v", counts, err)
		}

		l := ledger.New(rdb, ledger.Policy{Retention: time.Hour, StreamMax: 1000})
		if _, err := l.Settle(t.Context(), ledger.Ref{App: clientApp, ID: "m5"}, ledger.SettleRequest{Outcome: "accepted", Result: []byte("{}")}); err != nil {
			t.Fatal(err)
		}
		if a := client.SubmitMany(t.Context(), many)[5]; a.Err != nil || !a.Receipt.Already || !a.Receipt.Done {
			t.Errorf("one that is done: %+v", a)
		}

		inspector := asynq.NewInspectorFromRedisClient(rdb)
		if _, err := inspector.ArchiveAllPendingTasks(many[0].Queue()); err != nil {
			t.Fatal(err)
		}
		for _, e := range many[:30] {
			forgetTask(t, rdb, e.ID)
		}
		if fresh, _, failed := countAnswers(client.SubmitMany(t.Context(), many[:30])); fresh != 30 || failed != 0 || pending(t, rdb, tasks.Urgent) != 30 {
			t.Errorf("with archived copies: %d new, %d failed, %d in the queue", fresh, failed, pending(t, rdb, tasks.Urgent))
		}
	})
}

// TestSubmitManyReportsEachItem: with an invalid body, equal ids, a scheduled task, another
// app, and a record that is corrupt.
func TestSubmitManyReportsEachItem(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		many := messages(1200) // three chunks
		const other = "wxfedcba9876543210"
		many[3].App = other
		many[4].ProcessAt = time.Now().Add(time.Hour)
		many[600].Body = []byte(`{}`)
		many[700].ID = many[20].ID
		many[701].ID = many[702].ID
		if err := rdb.Set(t.Context(), ledger.TaskKey(clientApp, "m9"), "not a hash", 0).Err(); err != nil {
			t.Fatal(err)
		}
		client := tasks.NewClient(rdb)
		answers := client.SubmitMany(t.Context(), many)
		var invalid *tasks.ValidationError
		for i, a := range answers {
			switch i {
			case 600:
				if !errors.As(a.Err, &invalid) {
					t.Errorf("a bad body: %v", a.Err)
				}
			case 9:
				if a.Err == nil || errors.As(a.Err, &invalid) || !strings.Contains(a.Err.Error(), "enqueue m9:") {
					t.Errorf("a corrupt record: %v", a.Err)
				}
			default:
				want := tasks.Receipt{App: many[i].App, ID: many[i].ID, Queue: many[i].Queue(), Already: i == 700 || i == 702}
				if a.Err != nil || a.Receipt != want {
					t.Errorf("%d: %+v, %v", i, a.Receipt, a.Err)
				}
			}
		}
		if r, err := client.Result(t.Context(), clientApp, "m4"); err != nil || r.State != tasks.StateScheduled {
			t.Errorf("a task for later: %+v, %v", r, err)
		}
		queues, err := asynq.NewInspectorFromRedisClient(rdb).Queues()
		if err != nil || len(queues) != 2 {
			t.Errorf("asynq knows the queues %v, %v", queues, err)
		}
		// Without that of the other app, the scheduled one, two that failed and two duplicates.
		if n := pending(t, rdb, tasks.Urgent); n != 1200-6 {
			t.Errorf("%d tasks in the queue", n)
		}
	})
}

// TestScriptsAreReloaded after SCRIPT FLUSH and after a restart of Redis.
func TestScriptsAreReloaded(t *testing.T) {
	server := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
	rdb := server.Client(t)
	client := tasks.NewClient(rdb)
	many := messages(300)
	if fresh, _, _ := countAnswers(client.SubmitMany(t.Context(), many[:100])); fresh != 100 {
		t.Fatalf("%d of 100 are new", fresh)
	}
	if err := rdb.ScriptFlush(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	if fresh, _, _ := countAnswers(client.SubmitMany(t.Context(), many[100:200])); fresh != 100 {
		t.Errorf("after SCRIPT FLUSH: %d of 100 are new", fresh)
	}
	server.Kill()
	for i, a := range client.SubmitMany(t.Context(), many) {
		if a.Err == nil {
			t.Fatalf("without a server: %d: %+v", i, a.Receipt)
		}
	}
	server.Restart()
	fresh, already, failed := countAnswers(client.SubmitMany(t.Context(), many))
	if fresh != 100 || already != 200 || failed != 0 || waiting(t, rdb) != 300 {
		t.Errorf("after a restart: %d new, %d enqueued before, %d failed, %d in the queues", fresh, already, failed, waiting(t, rdb))
	}
}

// TestAFullRedis: enqueuing returns ErrRedisFull and leaves nothing half-written. When there is
// memory again, each task is enqueued once.
func TestAFullRedis(t *testing.T) {
	server := redistest.Start(t, "--maxmemory-policy", "noeviction")
	rdb := server.Client(t)
	client := tasks.NewClient(rdb)
	client.SubmitMany(t.Context(), messages(1)) // loads the scripts and makes the sets
	info, err := redisinfo.Read(t.Context(), rdb, "memory")
	used, ok := info.Int(redisinfo.Memory)
	if !ok {
		t.Fatalf("Redis does not report its memory: %v", err)
	}
	// The memory is full after a part of the tasks.
	if err := rdb.ConfigSet(t.Context(), "maxmemory", strconv.FormatInt(used+1_500_000, 10)).Err(); err != nil {
		t.Fatal(err)
	}
	many := messages(4000)
	answers := client.SubmitMany(t.Context(), many)
	fresh, already, failed := countAnswers(answers)
	if fresh == 0 || already != 1 || failed == 0 {
		t.Fatalf("%d new, %d enqueued before, %d failed", fresh, already, failed)
	}
	if n := waiting(t, rdb); n != int64(fresh+already) {
		t.Errorf("%d in the queues, %d were reported", n, fresh+already)
	}
	for i, a := range answers {
		if a.Err != nil && (!errors.Is(a.Err, tasks.ErrRedisFull) || a.Receipt != (tasks.Receipt{})) {
			t.Fatalf("%d: %v", i, a.Err)
		}
	}
	if _, err := client.Submit(t.Context(), message("single")); !errors.Is(err, tasks.ErrRedisFull) {
		t.Errorf("a single one: %v", err)
	}
	if err := rdb.ConfigSet(t.Context(), "maxmemory", "0").Err(); err != nil {
		t.Fatal(err)
	}
	again, was, _ := countAnswers(client.SubmitMany(t.Context(), many))
	if again != failed || was != fresh+already || waiting(t, rdb) != 4000 {
		t.Errorf("repeated: %d new, %d enqueued before, %d in the queues", again, was, waiting(t, rdb))
	}
}

// TestPlainAsynqServerProcessesTheTasks: a server of asynq without our code processes the tasks
// of EnqueueMany.
func TestPlainAsynqServerProcessesTheTasks(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		many := messages(50)
		made := make([]*asynq.Task, len(many))
		for i, e := range many {
			task, err := tasks.NewTask(e)
			if err != nil {
				t.Fatal(err)
			}
			made[i] = task
		}
		if fresh, _, _ := countAnswers(tasks.NewClient(rdb).EnqueueMany(t.Context(), made)); fresh != 50 {
			t.Fatalf("%d of 50 are new", fresh)
		}
		got := make(chan *asynq.Task, 50)
		server := asynq.NewServerFromRedisClient(rdb, asynq.Config{
			Queues: map[string]int{many[0].Queue(): 1}, LogLevel: asynq.FatalLevel, TaskCheckInterval: 10 * time.Millisecond,
		})
		if err := server.Start(asynq.HandlerFunc(func(ctx context.Context, task *asynq.Task) error {
			if n, _ := asynq.GetMaxRetry(ctx); n != tasks.MarkedRetry {
				t.Errorf("the retry limit is %d, want MarkedRetry", n)
			}
			got <- task
			return nil
		})); err != nil {
			t.Fatal(err)
		}
		defer server.Shutdown()
		for range many {
			task := <-got
			if e, err := tasks.DecodePayload(task.Payload()); err != nil || task.Type() != tasks.TypeSubscribe || !strings.HasPrefix(e.ID, "m") {
				t.Errorf("%s %+v, %v", task.Type(), e, err)
			}
			if len(task.Headers()) != 0 {
				t.Errorf("headers %v", task.Headers())
			}
		}
	})
}

// TestSubmitManyWhileRedisIsAway: a Redis that does not answer is asked once for the tasks of an app and
// once for its templates, not once for each task, and the tasks can be repeated.
func TestSubmitManyWhileRedisIsAway(t *testing.T) {
	mini, rdb := redistest.Mini(t)
	client, sent := tasks.NewClient(rdb), redistest.Count(rdb)
	mini.SetError("LOADING Redis is loading the dataset in memory")
	var results []tasks.SubmitResult
	if commands, _ := sent.During(func() { results = client.SubmitMany(t.Context(), messages(100)) }); commands != 2 {
		t.Errorf("%d commands", commands)
	}
	if _, _, failed := countAnswers(results); failed != 100 {
		t.Errorf("%d of 100 failed", failed)
	}
	mini.SetError("")
	if fresh, _, _ := countAnswers(client.SubmitMany(t.Context(), messages(100))); fresh != 100 {
		t.Errorf("then %d of 100 were enqueued", fresh)
	}
}
