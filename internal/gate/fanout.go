package gate

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/asynqwire"
	"github.com/wxcourier/wxcourier/internal/exists"
)

// fanOut runs the scripts of asynq's forwarder, recoverer and janitor, which name the
// server's own queue, for the queues of the lanes that share the server. Most queues have
// nothing to forward, recover or delete; such a queue costs one key of an EXISTS.
type fanOut struct {
	rdb   redis.UniversalClient
	lanes func() map[string]*Gate // the gates by queue

	mu    sync.Mutex
	known map[string]*nonEmptyQueues // guarded by mu; by the name of the key
}

// nonEmptyQueues are the queues that had a key when it was last looked up.
type nonEmptyQueues struct {
	queues map[string]bool
	since  time.Time
}

// recheckEvery is how long the script runs for a queue whose key existed before EXISTS
// checks the key again.
const recheckEvery = 30 * time.Second

func newFanOut(rdb redis.UniversalClient, lanes func() map[string]*Gate) *fanOut {
	return &fanOut{rdb: rdb, lanes: lanes, known: make(map[string]*nonEmptyQueues)}
}

// run answers a script about the server's queue with the replies for all queues: the sum of
// numbers, or the concatenated lists. It wakes the lanes of queues in which tasks were
// forwarded to pending.
func (f *fanOut) run(ctx context.Context, queue, key string, cmd *redis.Cmd) error {
	gates := f.lanes()
	queues, err := f.queuesWith(ctx, key, slices.Sorted(maps.Keys(gates)))
	if err != nil {
		cmd.SetErr(err)
		return err
	}
	calls := make([]*redis.Cmd, len(queues))
	pipe := f.rdb.Pipeline()
	for i, name := range queues {
		calls[i] = redis.NewCmd(ctx, asynqwire.ReplaceQueue(cmd.Args(), queue, name)...)
		_ = pipe.Process(ctx, calls[i])
	}
	if len(calls) > 0 {
		_, _ = pipe.Exec(ctx) // each has its own error
	}
	sum, list := int64(0), []any{}
	for i, c := range calls {
		if c.Err() != nil {
			if err == nil || !redis.HasErrorPrefix(err, "NOSCRIPT") {
				err = c.Err() // a NOSCRIPT takes precedence: asynq then sends the script
			}
			continue
		}
		switch reply := c.Val().(type) {
		case int64:
			sum += reply
			if g := gates[queues[i]]; reply > 0 && key != asynqwire.Completed {
				g.Wake()
			}
		case []any:
			list = append(list, reply...)
		}
	}
	switch {
	case err != nil:
		cmd.SetErr(err)
	case key == asynqwire.Lease:
		cmd.SetVal(list)
	default:
		cmd.SetVal(sum)
	}
	return err
}

// queuesWith returns the queues that have a key, or had it within recheckEvery.
func (f *fanOut) queuesWith(ctx context.Context, key string, queues []string) ([]string, error) {
	f.mu.Lock()
	last := f.known[key]
	f.mu.Unlock()
	if last == nil || time.Since(last.since) > recheckEvery {
		last = &nonEmptyQueues{since: time.Now()}
	}
	var some, others []string
	for _, q := range queues {
		if last.queues[q] {
			some = append(some, q)
		} else {
			others = append(others, q)
		}
	}
	others, err := exists.Filter(ctx, f.rdb, others, func(q string) []string { return []string{asynqwire.Key(q, key)} }, exists.MaxKeys, 22, 1)
	if err != nil {
		return nil, err
	}
	some = append(some, others...)
	now := &nonEmptyQueues{queues: make(map[string]bool, len(some)), since: last.since}
	for _, q := range some {
		now.queues[q] = true
	}
	f.mu.Lock()
	f.known[key] = now
	f.mu.Unlock()
	return some, nil
}
