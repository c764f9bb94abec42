package tasks

import (
	"context"
	"errors"
	"fmt"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
)

// asynq enqueues one task per round trip. The code below captures the command that asynq
// would send for each task, sends the commands of many tasks in one pipeline, and passes
// the replies back to asynq. The wire format therefore stays asynq's own, in every version.

// capture holds the command that asynq sends to enqueue one task, and the reply that asynq
// reads.
type capture struct {
	pipe    redis.Pipeliner // collects the captured commands
	command *redis.Cmd      // the captured script; nil when asynq sent none
	success *redis.Cmd      // the reply to a captured script: enqueued
	reply   *redis.Cmd      // Redis' reply, which asynq reads once; nil while there is none
}

type captureKey struct{}

// capturingClient is the Redis client that asynq gets. A script that asynq runs with a
// capture in its context is added to the capture's pipeline and answered with
// capture.success. All other commands go to Redis at once: SADD to the set of queues, once
// a queue.
type capturingClient struct{ redis.UniversalClient }

// replyEnqueued is the reply of asynq's scripts when the task was enqueued. If another
// version of asynq expects another reply, it returns an error and no task is reported as
// enqueued.
const replyEnqueued = int64(1)

// EvalSha is the command that asynq tries first.
func (c capturingClient) EvalSha(ctx context.Context, sha1 string, keys []string, args ...any) *redis.Cmd {
	captured, ok := ctx.Value(captureKey{}).(*capture)
	if !ok {
		return c.UniversalClient.EvalSha(ctx, sha1, keys, args...)
	}
	return captured.intercept(ctx, redis.Pipeliner.EvalSha, sha1, keys, args)
}

// Eval is the command that asynq sends when Redis does not know the script.
func (c capturingClient) Eval(ctx context.Context, script string, keys []string, args ...any) *redis.Cmd {
	captured, ok := ctx.Value(captureKey{}).(*capture)
	if !ok {
		return c.UniversalClient.Eval(ctx, script, keys, args...)
	}
	return captured.intercept(ctx, redis.Pipeliner.Eval, script, keys, args)
}

// intercept returns the reply that is there, or else adds the script to the pipeline and
// reports success for now.
func (e *capture) intercept(ctx context.Context,
	run func(redis.Pipeliner, context.Context, string, []string, ...any) *redis.Cmd, script string, keys []string, args []any,
) *redis.Cmd {
	if reply := e.reply; reply != nil {
		e.reply = nil
		return reply
	}
	e.command = run(e.pipe, ctx, script, keys, args...)
	return e.success
}

// item is a task to enqueue, with its result.
type item struct {
	task    *asynq.Task
	queue   string
	command *redis.Cmd // in the pipeline; nil when err is final
	err     error      // as asynq's EnqueueContext returns it
}

// enqueuePipelined enqueues items as asynq's EnqueueContext does, in few round trips. Each
// item has its own error.
func (c *Client) enqueuePipelined(ctx context.Context, items []*item) {
	e := &capture{success: redis.NewCmd(ctx)}
	e.success.SetVal(replyEnqueued)
	capturing := context.WithValue(ctx, captureKey{}, e)
	e.pipe = c.rdb.Pipeline()
	for _, it := range items {
		c.callAsynq(capturing, e, it, nil)
	}
	for e.pipe.Len() > 0 {
		c.exec(ctx, e.pipe)
		e.pipe = c.rdb.Pipeline()
		for _, it := range items {
			if it.command != nil {
				c.handleReply(capturing, e, it)
			}
		}
	}
}

// exec sends the commands of a pipeline; each command then has its reply or error. A single
// command is sent without a pipeline: go-redis keeps few connections for pipelines.
func (c *Client) exec(ctx context.Context, pipe redis.Pipeliner) {
	if cmds := pipe.Cmds(); len(cmds) == 1 {
		_ = c.rdb.Process(ctx, cmds[0])
		return
	}
	_, _ = pipe.Exec(ctx)
}

// callAsynq calls asynq's EnqueueContext for one item and captures the command that it
// sends. reply is the reply to the command before, or nil the first time.
func (c *Client) callAsynq(ctx context.Context, e *capture, it *item, reply *redis.Cmd) {
	e.command, e.reply = nil, reply
	_, it.err = c.asynqClient.EnqueueContext(ctx, it.task, asynq.Queue(it.queue))
	it.command = e.command
	if it.command == nil && reply == nil && it.err == nil {
		it.err = errNothingCaptured
	}
}

// handleReply passes Redis' reply to asynq, unless the reply is the success that asynq has
// seen already. When Redis does not know the script, asynq sends another command.
func (c *Client) handleReply(ctx context.Context, e *capture, it *item) {
	if reply := it.command; reply.Err() != nil || reply.Val() != replyEnqueued {
		c.callAsynq(ctx, e, it, reply)
		if err := reply.Err(); err != nil && it.command == nil {
			it.err = err // asynq's error has its text only
		}
		return
	}
	it.command = nil
}

var errNothingCaptured = errors.New("tasks: asynq sent no script to Redis")

// ErrRedisFull says that Redis has reached its memory limit and takes no more tasks,
// until some are delivered and their results expire, or the limit is raised. Repeating the
// call is safe, also for a task that was partly enqueued.
var ErrRedisFull = errors.New("Redis is out of memory (its maxmemory): let tasks be delivered, or raise maxmemory, then repeat") //nolint:staticcheck // the name of the program begins it

// enqueueError adds the task's id to an error, and ErrRedisFull where it applies.
func enqueueError(id string, err error) error {
	if redis.HasErrorPrefix(err, "OOM ") {
		err = fmt.Errorf("%w: %w", ErrRedisFull, err)
	}
	return fmt.Errorf("enqueue %s: %w", id, err)
}
