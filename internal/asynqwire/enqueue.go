package asynqwire

import (
	"context"
	"errors"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
)

// Enqueuer enqueues many tasks in few round trips, where asynq.Client takes one for each. It
// captures the command that asynq would send for each task, sends the commands of many tasks
// in one pipeline, and passes the replies back to asynq. The wire format therefore stays
// asynq's own, in every version. It is safe for concurrent use.
type Enqueuer struct {
	rdb    redis.UniversalClient
	client *asynq.Client // on a capturingClient
}

// NewEnqueuer returns an Enqueuer on rdb. It does no I/O.
func NewEnqueuer(rdb redis.UniversalClient) *Enqueuer {
	return &Enqueuer{rdb: rdb, client: asynq.NewClientFromRedisClient(capturingClient{rdb})}
}

// Item is a task to enqueue, with its result.
type Item struct {
	Task  *asynq.Task
	Queue string // takes precedence over the queue in the task's options
	// Err is nil when EnqueueMany has enqueued the task. Otherwise it is as asynq's
	// EnqueueContext returns it (asynq.ErrTaskIDConflict …), or Redis' own error.
	Err error

	command *redis.Cmd // in the pipeline; nil when Err is final
}

// EnqueueMany enqueues items as asynq's EnqueueContext does. It sets the Err of each item; a
// failure of one does not affect the others.
func (e *Enqueuer) EnqueueMany(ctx context.Context, items []*Item) {
	c := &capture{success: redis.NewCmd(ctx)}
	c.success.SetVal(replyEnqueued)
	capturing := context.WithValue(ctx, captureKey{}, c)
	c.pipe = e.rdb.Pipeline()
	for _, it := range items {
		e.callAsynq(capturing, c, it, nil)
	}
	for c.pipe.Len() > 0 {
		e.exec(ctx, c.pipe)
		c.pipe = e.rdb.Pipeline()
		for _, it := range items {
			if it.command != nil {
				e.handleReply(capturing, c, it)
			}
		}
	}
}

// exec sends the commands of a pipeline; each command then has its reply or error. A single
// command is sent without a pipeline: go-redis keeps few connections for pipelines.
func (e *Enqueuer) exec(ctx context.Context, pipe redis.Pipeliner) {
	if cmds := pipe.Cmds(); len(cmds) == 1 {
		_ = e.rdb.Process(ctx, cmds[0])
		return
	}
	_, _ = pipe.Exec(ctx)
}

// callAsynq calls asynq's EnqueueContext for one item and captures the command that it
// sends. reply is the reply to the command before, or nil the first time.
func (e *Enqueuer) callAsynq(ctx context.Context, c *capture, it *Item, reply *redis.Cmd) {
	c.command, c.reply = nil, reply
	_, it.Err = e.client.EnqueueContext(ctx, it.Task, asynq.Queue(it.Queue))
	it.command = c.command
	if it.command == nil && reply == nil && it.Err == nil {
		it.Err = errNothingCaptured
	}
}

// handleReply passes Redis' reply to asynq, unless the reply is the success that asynq has
// seen already. When Redis does not know the script, asynq sends another command.
func (e *Enqueuer) handleReply(ctx context.Context, c *capture, it *Item) {
	if reply := it.command; reply.Err() != nil || reply.Val() != replyEnqueued {
		e.callAsynq(ctx, c, it, reply)
		if err := reply.Err(); err != nil && it.command == nil {
			it.Err = err // asynq's error has its text only
		}
		return
	}
	it.command = nil
}

var errNothingCaptured = errors.New("asynqwire: asynq sent no script to Redis")

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
func (c *capture) intercept(ctx context.Context,
	run func(redis.Pipeliner, context.Context, string, []string, ...any) *redis.Cmd, script string, keys []string, args []any,
) *redis.Cmd {
	if reply := c.reply; reply != nil {
		c.reply = nil
		return reply
	}
	c.command = run(c.pipe, ctx, script, keys, args...)
	return c.success
}
