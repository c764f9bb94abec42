package worker

import (
	"context"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
)

// redisHook is the go-redis hook that stands between asynq and Redis.
//
// It lets asynq's dequeue through only when the queue's lane has a permit in hand. Tasks
// that wait for their pace therefore stay pending: they hold no slot and no lease, and
// urgent ones pass bulk ones at once. Where a lane has several permits and free slots, it
// takes as many tasks in one round trip, and answers asynq's next questions from them.
//
// asynq's retry of a task that is to wait in its queue puts it back there; see [requeue].
//
// Other calls of scripts that Redis knows share their round trips; see [sharing].
type redisHook struct {
	gates sync.Map // queue name → *gate
	share sharing
}

func newRedisHook(rdb redis.UniversalClient) *redisHook {
	return &redisHook{share: sharing{pipeline: rdb.Pipeline}}
}

func (h *redisHook) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h *redisHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (h *redisHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		script, ok := cmd.(*redis.Cmd)
		if !ok || (cmd.Name() != "evalsha" && cmd.Name() != "eval") {
			return next(ctx, cmd)
		}
		if queue, ok := dequeues(cmd); ok {
			return h.dequeue(ctx, queue, script, next)
		}
		if q, ok := requeues(cmd); ok {
			return h.requeue(ctx, q, script, next)
		}
		if cmd.Name() == "eval" { // the script is not known to this Redis yet
			return next(ctx, cmd)
		}
		return h.share.do(ctx, script, func() error { return next(ctx, cmd) })
	}
}

// dequeue asks a queue for as many tasks as its gate has permits for.
func (h *redisHook) dequeue(ctx context.Context, queue string, cmd *redis.Cmd, next redis.ProcessHook) error {
	found, ok := h.gates.Load(queue)
	if !ok {
		return nothing(cmd)
	}
	g, _ := found.(*gate)
	if task, ok := g.pop(); ok {
		cmd.SetVal(task)
		return nil
	}
	n := g.pass(queue)
	switch {
	case n == 0:
		return nothing(cmd)
	case n == 1 || cmd.Name() == "eval":
		err := next(ctx, cmd)
		g.dequeued(queue, 1, nil, err)
		return err
	}
	copies := make([]dequeueOnce, n)
	pipe := h.share.pipeline()
	for i := range copies {
		copies[i] = dequeueOnce{redis.NewCmd(ctx, cmd.Args()...)}
		_ = pipe.Process(ctx, copies[i])
	}
	_, _ = pipe.Exec(ctx) // each has its own error
	var more []any
	for _, c := range copies[1:] {
		if c.Err() == nil {
			more = append(more, c.Val())
		}
	}
	first := copies[0]
	if first.Err() != nil && len(more) > 0 { // asynq gets a task, whatever became of the first question
		first.SetErr(nil)
		first.SetVal(more[0])
		more = more[1:]
	}
	g.dequeued(queue, n, more, first.Err())
	cmd.SetVal(first.Val())
	cmd.SetErr(first.Err())
	return first.Err()
}

// dequeueOnce is a dequeue that go-redis does not send again when its reply was lost: each
// time, a whole batch would be in nobody's hands until its leases end. The gate asks again.
type dequeueOnce struct{ *redis.Cmd }

// NoRetry tells go-redis so.
func (dequeueOnce) NoRetry() bool { return true }

// nothing answers as an empty queue does.
func nothing(cmd redis.Cmder) error {
	cmd.SetErr(redis.Nil)
	return redis.Nil
}

func (h *redisHook) add(g *gate) {
	for _, q := range g.queues {
		h.gates.Store(q, g)
	}
}

func (h *redisHook) remove(g *gate) {
	for _, q := range g.queues {
		h.gates.CompareAndDelete(q, g)
	}
}

// dequeues tells whether a command is asynq's dequeue script, and of which queue. The
// script is known by its keys (pending, paused, active, lease), not by its hash, which
// may change with asynq's next release.
func dequeues(cmd redis.Cmder) (queue string, ok bool) {
	args := cmd.Args()
	if len(args) < 7 || (cmd.Name() != "evalsha" && cmd.Name() != "eval") {
		return "", false
	}
	pending, _ := args[3].(string)
	paused, _ := args[4].(string)
	queue, ok = strings.CutPrefix(pending, "asynq:{")
	if !ok {
		return "", false
	}
	if queue, ok = strings.CutSuffix(queue, "}:pending"); !ok {
		return "", false
	}
	return queue, paused == "asynq:{"+queue+"}:paused"
}
