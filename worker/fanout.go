package worker

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// fanOut runs the scripts of asynq's forwarder, recoverer and janitor, which name a
// server's own queue, for the queues of the lanes that share the server. Most queues have
// nothing to forward, recover or clean: those cost a part of one EXISTS.
type fanOut struct {
	rdb   redis.UniversalClient
	lanes func() map[string]*gate // the gates by queue

	mu    sync.Mutex
	known map[string]*nonEmptyQueues // guarded by mu; by the end of a key
}

// nonEmptyQueues are the queues whose key was there when all were looked at last.
type nonEmptyQueues struct {
	queues map[string]bool
	since  time.Time
}

// recheckEvery is how long a queue whose key was there is asked by the script itself.
const recheckEvery = 30 * time.Second

func newFanOut(rdb redis.UniversalClient, lanes func() map[string]*gate) *fanOut {
	return &fanOut{rdb: rdb, lanes: lanes, known: make(map[string]*nonEmptyQueues)}
}

// The ends of the keys that the scripts begin with.
const (
	keyScheduled = "scheduled"
	keyRetry     = "retry"
	keyLease     = "lease"
	keyCompleted = "completed"
)

// run answers a script about the server's queue with the replies for all queues: the sum
// of numbers, or the joined lists. A queue that tasks were forwarded in is dequeued from
// at once.
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
		calls[i] = redis.NewCmd(ctx, replaceQueue(cmd.Args(), queue, name)...)
		_ = pipe.Process(ctx, calls[i])
	}
	if len(calls) > 0 {
		_, _ = pipe.Exec(ctx) // each has its own error
	}
	sum, list := int64(0), []any{}
	for i, c := range calls {
		if c.Err() != nil {
			if err == nil || !redis.HasErrorPrefix(err, "NOSCRIPT") {
				err = c.Err() // that a script is unknown is what asynq must hear
			}
			continue
		}
		switch reply := c.Val().(type) {
		case int64:
			sum += reply
			if g := gates[queues[i]]; reply > 0 && key != keyCompleted {
				g.wake()
			}
		case []any:
			list = append(list, reply...)
		}
	}
	switch {
	case err != nil:
		cmd.SetErr(err)
	case key == keyLease:
		cmd.SetVal(list)
	default:
		cmd.SetVal(sum)
	}
	return err
}

// queuesWith returns the queues that have a key.
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
	others, err := filterExisting(ctx, f.rdb, others, func(q string) []string { return []string{queuePrefix(q) + key} }, existsChunk, 22, 1)
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

// parseScript tells of which queue a script call is, and with which of the queue's keys it
// begins. asynq's scripts are known by their keys and not by their hashes, which may
// change with asynq's next release.
func parseScript(cmd redis.Cmder) (queue, key string, ok bool) {
	args := cmd.Args()
	if len(args) < 5 || (cmd.Name() != "evalsha" && cmd.Name() != "eval") {
		return "", "", false
	}
	first, _ := args[3].(string)
	if first, ok = strings.CutPrefix(first, "asynq:{"); !ok {
		return "", "", false
	}
	return strings.Cut(first, "}:")
}
