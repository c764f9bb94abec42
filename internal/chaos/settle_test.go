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

// keys lists the keys of a pattern, on all nodes of a cluster.
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

// ended is how many tasks have an outcome.
func (w *world) ended() (n int64) {
	for _, app := range []string{mini, official, third} {
		counts, err := w.client.Batch(w.t.Context(), app, mainBatch)
		if err == nil {
			n += counts["done"]
		}
	}
	return n
}

// queues lists the queues that asynq knows, and those of the tests' own tasks that are
// missing there since an operator deleted them.
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

// inAsynq is how many tasks asynq moves, and how many of them a dead replica has left
// to those that start.
func (w *world) inAsynq() (moving, orphans int64, err error) {
	ctx := w.t.Context()
	queues, err := w.queues()
	for _, q := range queues {
		prefix := "asynq:{" + q + "}:"
		var lists []*redis.IntCmd
		var late *redis.IntCmd
		_, failed := w.rdb.TxPipelined(ctx, func(p redis.Pipeliner) error { // what moves between two lists is seen once
			lists = []*redis.IntCmd{
				p.LLen(ctx, prefix+"pending"), p.LLen(ctx, prefix+"active"), p.ZCard(ctx, prefix+"lease"),
				p.ZCard(ctx, prefix+"scheduled"), p.ZCard(ctx, prefix+"retry"),
			}
			late = p.ZCount(ctx, prefix+"lease", "-inf", strconv.FormatInt(time.Now().Unix()-31, 10))
			return nil
		})
		err = errors.Join(err, failed)
		for _, l := range lists {
			moving += l.Val()
		}
		orphans += late.Val()
	}
	return moving, orphans, err
}

// settle waits until n tasks have an outcome and asynq has nothing in hand. A replica
// looks for what dead ones left when it starts, and once a minute; so that a test need
// not wait for the minute, replicas are rolled when there is something to be found.
func (w *world) settle(f *fleet, n int, within time.Duration) {
	w.t.Helper()
	w.settleWhen(f, within, func() bool { return w.ended() >= int64(n) })
}

// settleWhen is settle with another condition than a number of outcomes.
func (w *world) settleWhen(f *fleet, within time.Duration, ended func() bool) {
	w.t.Helper()
	var rolled time.Time
	for deadline := time.Now().Add(within); ; time.Sleep(200 * time.Millisecond) {
		f.restartEnded()
		moving, orphans, err := w.inAsynq()
		if err == nil && moving == 0 && ended() {
			return
		}
		if err == nil && orphans > 0 && time.Since(rolled) > 5*time.Second {
			f.roll()
			rolled = time.Now()
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("after %v %d tasks have an outcome, and asynq moves %d (%v)\n%s", within, w.ended(), moving, err, w.output("status"))
		}
	}
}
