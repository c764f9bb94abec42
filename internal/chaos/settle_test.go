package chaos

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/tasks"
)

// keys returns the keys that match a pattern, on all nodes of a cluster.
func (w *world) keys(pattern string) []string {
	w.t.Helper()
	var (
		mu  sync.Mutex
		all []string
	)
	scan := func(ctx context.Context, node *redis.Client) error {
		iter := node.Scan(ctx, 0, pattern, 1000).Iterator()
		for iter.Next(ctx) {
			mu.Lock()
			all = append(all, iter.Val())
			mu.Unlock()
		}
		return iter.Err()
	}
	var err error
	switch rdb := w.rdb.(type) {
	case *redis.ClusterClient:
		err = rdb.ForEachMaster(w.t.Context(), scan)
	case *redis.Client:
		err = scan(w.t.Context(), rdb)
	default:
		err = errors.New("no client that lists keys")
	}
	must(w.t, err)
	slices.Sort(all)
	return slices.Compact(all)
}

// ended returns the number of tasks with an outcome.
func (w *world) ended() (n int64) {
	for _, app := range []string{mini, official, third} {
		counts, err := w.client.Batch(w.t.Context(), app, mainBatch)
		if err == nil {
			n += counts["done"]
		}
	}
	return n
}

// queues returns asynq's queues, and those of the tests' tasks that an operator deleted.
func (w *world) queues() ([]string, error) {
	all, err := w.rdb.SMembers(w.t.Context(), "asynq:queues").Result()
	for _, app := range []string{mini, official, third} {
		for typ := range bodies {
			all = append(all, tasks.QueueName(app, typ, tasks.Urgent), tasks.QueueName(app, typ, tasks.Bulk))
		}
	}
	slices.Sort(all)
	return slices.Compact(all), err
}

// inAsynq returns the number of unfinished tasks in asynq, and how many of them have an expired
// lease, because their replica died.
func (w *world) inAsynq() (unfinished, orphans int64, err error) {
	ctx := w.t.Context()
	queues, err := w.queues()
	for _, q := range queues {
		prefix := "asynq:{" + q + "}:"
		var lists []*redis.IntCmd
		var late *redis.IntCmd
		_, failed := w.rdb.TxPipelined(ctx, func(p redis.Pipeliner) error { // so that a task that moves between lists counts once
			lists = []*redis.IntCmd{
				p.LLen(ctx, prefix+"pending"), p.LLen(ctx, prefix+"active"), p.ZCard(ctx, prefix+"lease"),
				p.ZCard(ctx, prefix+"scheduled"), p.ZCard(ctx, prefix+"retry"),
			}
			late = p.ZCount(ctx, prefix+"lease", "-inf", strconv.FormatInt(time.Now().Unix()-31, 10))
			return nil
		})
		err = errors.Join(err, failed)
		for _, l := range lists {
			unfinished += l.Val()
		}
		orphans += late.Val()
	}
	return unfinished, orphans, err
}

// settle waits until n tasks have an outcome and asynq has no unfinished tasks. Replicas recover
// tasks with expired leases at their start and once a minute; settle rolls a replica when there are
// such tasks, to save the minute.
func (w *world) settle(f *fleet, n int, within time.Duration) {
	w.t.Helper()
	w.settleWhen(f, within, func() bool { return w.ended() >= int64(n) })
}

// settleWhen is settle with another condition in place of the number of outcomes.
func (w *world) settleWhen(f *fleet, within time.Duration, ended func() bool) {
	w.t.Helper()
	var rolled time.Time
	for deadline := time.Now().Add(within); ; time.Sleep(200 * time.Millisecond) {
		f.restartEnded()
		unfinished, orphans, err := w.inAsynq()
		if err == nil && unfinished == 0 && ended() {
			return
		}
		if err == nil && orphans > 0 && time.Since(rolled) > 5*time.Second {
			f.roll()
			rolled = time.Now()
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("after %v %d tasks have an outcome, and asynq has %d unfinished (%v)\n%s", within, w.ended(), unfinished, err, w.output("status"))
		}
	}
}
