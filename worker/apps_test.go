package worker_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/sandbox"
	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/worker"
)

// appNumber returns the id of the nth of many apps.
func appNumber(n int) string { return fmt.Sprintf("wx%016x", n+1) }

// addApps makes the replicas of a rig send for n more apps.
func (r *rig) addApps(n int) {
	for i := range n {
		r.others = append(r.others, worker.App{ID: appNumber(i)})
	}
}

// manyApps returns the options of a WeChat with n more apps.
func manyApps(n int) sandbox.Options {
	apps := map[string]string{app: secret}
	for i := range n {
		apps[appNumber(i)] = secret
	}
	return sandbox.Options{Apps: apps, Latency: 300 * time.Millisecond}
}

// TestLanesShareConnections: with 240 open lanes that have running handlers, a replica has
// less than a hundred connections and at most four asynq servers, which shutdown stops.
func TestLanesShareConnections(t *testing.T) {
	t.Parallel()
	const apps, each = 120, 3
	server := redistest.Start(t)
	r := newRig(t, server.Addr(), manyApps(apps))
	r.addApps(apps)
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr(), PoolSize: 80, ClientName: "replica"})
	t.Cleanup(func() { _ = rdb.Close() })
	p := r.replicaOn(rdb, nil)
	for i := range each {
		for n := range apps {
			for _, typ := range []string{tasks.TypeSubscribe, tasks.TypeCustom} {
				e := addressed(typ, fmt.Sprint(typ[5:], i), fmt.Sprint("o", i))
				e.App = appNumber(n)
				r.submit(e)
			}
		}
	}
	most := 0
	redistest.Until(t, 30*time.Second, "all messages are delivered", func() bool {
		clients, err := r.rdb.ClientList(t.Context()).Result()
		if err != nil {
			t.Fatal(err)
		}
		most = max(most, strings.Count(clients, " name=replica "))
		return r.wx.Count(sandbox.Filter{Path: sendPath, Delivered: true}) == each*apps
	})
	if open := worker.OpenLanesForTest(p.Replica); open < apps {
		t.Errorf("%d lanes are open", open)
	}
	if most == 0 || most >= 100 {
		t.Errorf("%d connections, want less than 100", most)
	}
	inspector := asynq.NewInspectorFromRedisClient(r.rdb)
	if servers, err := inspector.Servers(); err != nil || len(servers) < 2 || len(servers) > 5 { // one has no lanes
		t.Errorf("%d asynq servers, %v", len(servers), err)
	}
	if err := p.stop(); err != nil {
		t.Error(err)
	}
	if servers, err := inspector.Servers(); err != nil || len(servers) > 0 {
		t.Errorf("%d asynq servers after the shutdown, %v", len(servers), err)
	}
	queues, err := inspector.Queues()
	for _, name := range queues {
		if _, _, _, ok := tasks.ParseQueue(name); !ok {
			t.Errorf("asynq's set has the queue %q", name)
		}
	}
	if err != nil {
		t.Error(err)
	}
}

// TestManyIdleAppsCostFewCommands: 5,000 apps with an empty queue each cost at most 25
// commands a second, including those for holds.
func TestManyIdleAppsCostFewCommands(t *testing.T) {
	t.Parallel()
	const apps, span = 5000, 10 * time.Second
	m, _ := redistest.Mini(t)
	r := newRig(t, m.Addr(), noOptions)
	r.addApps(apps)
	for i := range apps {
		if err := r.rdb.SAdd(t.Context(), "asynq:queues", tasks.QueueName(appNumber(i), tasks.TypeSubscribe, tasks.Urgent)).Err(); err != nil {
			t.Fatal(err)
		}
	}
	rdb := r.newRedis()
	sent := redistest.Count(rdb)
	p, closeParts := r.unstarted(rdb, nil)
	defer closeParts()
	ctx := t.Context()
	poll := func() {
		for i := range int(span / (500 * time.Millisecond)) {
			if i%10 == 0 {
				worker.PollHoldsForTest(ctx, p.Replica)
			}
			worker.RefreshQueuesForTest(ctx, p.Replica)
			worker.PollForTest(ctx, p.Replica)
		}
	}
	poll() // the first poll checks all queues
	if commands, _ := sent.During(poll); commands > int64(25*span.Seconds()) {
		t.Errorf("%d commands in %v", commands, span)
	}
	if n := worker.OpenLanesForTest(p.Replica); n != 0 {
		t.Errorf("%d lanes are open", n)
	}
}

// TestTasksAreFoundWithoutTheQueueSet: a plain asynq client sends no wake-up message, and
// asynq's set of queues lacks the task's queue.
func TestTasksAreFoundWithoutTheQueueSet(t *testing.T) {
	onEach(t, manyApps(100), func(t *testing.T, r *rig) {
		r.addApps(100)
		last := appNumber(99)
		plain := asynq.NewClientFromRedisClient(r.rdb)
		enqueue := func(id string) {
			t.Helper()
			e := message(id, "o")
			e.App = last
			task, err := tasks.NewTask(e)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := plain.EnqueueContext(t.Context(), task); err != nil {
				t.Fatal(err)
			}
		}
		enqueue("first") // later tasks of this client do not update the set
		if err := r.rdb.Del(t.Context(), "asynq:queues").Err(); err != nil {
			t.Fatal(err)
		}
		p := r.replica(nil)
		accepted := func(id string) {
			t.Helper()
			redistest.Until(t, 30*time.Second, id+" has an outcome", func() bool {
				got, err := r.client.Result(t.Context(), last, id)
				return err == nil && got.Outcome == tasks.OutcomeAccepted
			})
		}
		accepted("first") // the first poll checks all queues
		r.lanes(p, 0)
		if err := p.stop(); err != nil {
			t.Fatal(err)
		}
		p = r.replica(nil)
		redistest.Until(t, 10*time.Second, "the replica has polled the queues", p.Ready)
		enqueue("second")
		accepted("second")
		if known := r.rdb.Exists(t.Context(), "asynq:queues").Val(); known > 0 {
			t.Error("the set exists: the test shows nothing")
		}
	})
}

// TestTasksOfADeadReplicaAreRecovered: two lanes each have an active task whose lease has
// expired.
func TestTasksOfADeadReplicaAreRecovered(t *testing.T) {
	onEach(t, noOptions, func(t *testing.T, r *rig) {
		ids := map[string]string{"subscribe": tasks.TypeSubscribe, "custom": tasks.TypeCustom}
		for id, typ := range ids {
			r.submit(addressed(typ, id, id))
			prefix := "asynq:{" + tasks.QueueName(app, typ, tasks.Urgent) + "}:"
			ctx := t.Context()
			task, err := r.rdb.RPopLPush(ctx, prefix+"pending", prefix+"active").Result()
			if err := errors.Join(
				err, r.rdb.HSet(ctx, prefix+"t:"+task, "state", "active").Err(),
				r.rdb.ZAdd(ctx, prefix+"lease", redis.Z{Score: float64(time.Now().Add(-time.Minute).Unix()), Member: task}).Err(),
			); err != nil {
				t.Fatal(err)
			}
		}
		r.replica(nil)
		for id := range ids {
			if got := r.outcome(id); got.Outcome != tasks.OutcomeAccepted {
				t.Errorf("%+v", got)
			}
		}
	})
}

// TestScheduledTasksRunInTime: in an open lane that shares its server, and in one that closes
// until the task is due.
func TestScheduledTasksRunInTime(t *testing.T) {
	onEach(t, noOptions, func(t *testing.T, r *rig) {
		p := r.replica(nil)
		redistest.Until(t, 10*time.Second, "the replica has polled the queues", p.Ready)
		due := time.Now().Add(3 * time.Second).Truncate(time.Second)
		far := due.Add(6 * time.Second)
		later := func(typ, id string, at time.Time) {
			e := addressed(typ, id, id)
			e.ProcessAt = at
			r.submit(e)
		}
		later(tasks.TypeCustom, "custom", due)
		later(tasks.TypeSubscribe, "near", due)
		later(tasks.TypeSubscribe, "far", far)
		for id, at := range map[string]time.Time{"custom": due, "near": due, "far": far} {
			got := r.outcome(id)
			if late := got.FinishedAt.Sub(at); got.Outcome != tasks.OutcomeAccepted || late > 2500*time.Millisecond {
				t.Errorf("%s: %s, %v late", id, got.Outcome, late)
			}
		}
	})
}
