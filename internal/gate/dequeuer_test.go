package gate

import (
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/asynqwire"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/ratelimit"
)

// openGate returns the gate of a queue with n pending tasks, with permits for all of them.
func openGate(t *testing.T, rdb *redis.Client, queue string, n int) *Gate {
	t.Helper()
	pace := &fakePace{permits: make(chan *ratelimit.Permit, 3*n)}
	for range 3 * n {
		pace.permits <- &ratelimit.Permit{At: time.Now().Add(time.Hour)}
	}
	for i := range n {
		if err := rdb.LPush(t.Context(), asynqwire.Key(queue, "pending"), fmt.Sprint(queue, i)).Err(); err != nil {
			t.Fatal(err)
		}
	}
	return New([]string{queue}, pace, manySlots)
}

// TestLanesTakeTurns: a lane with many tasks does not starve ten other lanes of its server,
// which share round trips.
func TestLanesTakeTurns(t *testing.T) {
	t.Parallel()
	rdb, hook, count := hookedClient(t)
	if err := popOne.Load(t.Context(), rdb).Err(); err != nil {
		t.Fatal(err)
	}
	const lanes, few = 10, 3
	d := serveLanes(hook)
	busy := openGate(t, rdb, "busy", 2000)
	d.add(busy)
	gates := []*Gate{busy}
	for i := range 200 { // until the busy lane dequeues maxPerQueue tasks at once
		if _, err := dequeueAs(rdb); err != nil {
			t.Fatalf("task %d: %v", i, err)
		}
		busy.takePermit(time.Now())
	}
	for i := range lanes {
		g := openGate(t, rdb, fmt.Sprint("small", i), few)
		d.add(g)
		gates = append(gates, g)
	}
	redistest.Until(t, 5*time.Second, "all gates are ready", func() bool {
		d.mu.Lock()
		defer d.mu.Unlock()
		return len(d.ready) == lanes+1
	})
	before, got, taken := count.shared.Load()+count.alone.Load(), 0, 0
	for ; got < lanes*few && taken < 1000; taken++ {
		task, err := dequeueAs(rdb)
		if err != nil {
			t.Fatal(err)
		}
		if task[0] == 's' {
			got++
		}
		for _, g := range gates {
			g.takePermit(time.Now())
		}
	}
	if trips := count.shared.Load() + count.alone.Load() - before; got < lanes*few || taken > 300 || trips > 8 {
		t.Errorf("%d of %d tasks of small lanes among %d, in %d round trips", got, lanes*few, taken, trips)
	}
	for _, g := range gates {
		g.Close()
	}
}

// TestDequeueAfterAScriptFlush: asynq gets the NOSCRIPT reply and sends the script itself; the
// gate counts no failure.
func TestDequeueAfterAScriptFlush(t *testing.T) {
	t.Parallel()
	rdb, hook, _ := hookedClient(t)
	d := serveLanes(hook)
	g := openGate(t, rdb, "q", 8)
	d.add(g)
	for i := range 8 {
		if i == 5 {
			if err := rdb.ScriptFlush(t.Context()).Err(); err != nil {
				t.Fatal(err)
			}
		}
		if task, err := dequeueAs(rdb); err != nil || task != fmt.Sprint("q", i) {
			t.Fatalf("task %d: %q, %v", i, task, err)
		}
		g.takePermit(time.Now())
	}
	g.Close()
	if <-g.done; g.failures > 0 {
		t.Errorf("%d failures", g.failures)
	}
}

// TestFanOut: a script about a server's queue runs for the queues of its lanes that have the
// script's key, and returns the sum of the numbers or all lists.
func TestFanOut(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		ctx := t.Context()
		gates := make(map[string]*Gate)
		for i := range 600 {
			gates[fmt.Sprint("q", i)] = New([]string{fmt.Sprint("q", i)}, &fakePace{}, manySlots)
		}
		f := newFanOut(rdb, func() map[string]*Gate { return gates })
		for _, err := range []error{
			rdb.ZAdd(ctx, "asynq:{q7}:lease", redis.Z{Score: 1, Member: "a"}).Err(),
			rdb.ZAdd(ctx, "asynq:{q599}:lease", redis.Z{Score: 1, Member: "b"}, redis.Z{Score: 2, Member: "c"}).Err(),
			rdb.ZAdd(ctx, "asynq:{q8}:scheduled", redis.Z{Score: 1, Member: "d"}).Err(),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		const members = `return redis.call("ZRANGE", KEYS[1], 0, -1)`
		const count = `local n = redis.call("ZCARD", KEYS[1]) redis.call("DEL", KEYS[1]) return n`
		run := func(source, key string) any {
			t.Helper()
			cmd := redis.NewCmd(ctx, "evalsha", redis.NewScript(source).Hash(), 1, "asynq:{lanes}:"+key)
			err := f.run(ctx, "lanes", key, cmd)
			if redis.HasErrorPrefix(err, "NOSCRIPT") {
				cmd = redis.NewCmd(ctx, "eval", source, 1, "asynq:{lanes}:"+key)
				err = f.run(ctx, "lanes", key, cmd)
			}
			if err != nil {
				t.Fatal(err)
			}
			return cmd.Val()
		}
		if got := fmt.Sprint(run(members, asynqwire.Lease)); got != "[b c a]" {
			t.Errorf("lost tasks: %v", got)
		}
		if got := run(count, asynqwire.Scheduled); got != int64(1) {
			t.Errorf("%v tasks are due", got)
		}
		if got := run(count, asynqwire.Scheduled); got != int64(0) {
			t.Errorf("%v tasks are due the second time", got)
		}
		select {
		case <-gates["q8"].work:
		default:
			t.Error("the lane of a task that has become due was not woken")
		}
		sent := redistest.Count(rdb)
		for range 10 {
			run(members, asynqwire.Completed)
		}
		if sent.Commands() > 20 {
			t.Errorf("%d commands for ten runs over 600 empty queues", sent.Commands())
		}
	})
}
