package tasks

import (
	"context"
	"errors"
	"fmt"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
)

// asynq hands over one task in one round trip. What follows lets it say what it would
// send, sends what it said for many tasks in one pipeline, and lets asynq itself read
// the replies. So the wire format stays asynq's own, whichever version it is.

// An errand is what asynq asks of Redis for one task, and what Redis answered.
type errand struct {
	pipe   redis.Pipeliner // takes what asynq asks
	asked  *redis.Cmd      // a script; nil when asynq asked for none
	taken  *redis.Cmd      // the answer for now
	answer *redis.Cmd      // for asynq to read, once; nil while it is not there
}

type errandKey struct{}

// courier is the client that asynq sees. A script that it runs on an errand is put into
// the errand's pipeline and, for now, answered with taken. All else goes to Redis at once:
// that is the set of queues, which asynq adds each queue to once.
type courier struct{ redis.UniversalClient }

// taken is what asynq's scripts answer when they have taken a task. Should another
// version answer otherwise, asynq would say so, and no task would be reported as
// enqueued.
const taken = int64(1)

// EvalSha is where asynq's scripts begin.
func (c courier) EvalSha(ctx context.Context, sha1 string, keys []string, args ...any) *redis.Cmd {
	e, ok := ctx.Value(errandKey{}).(*errand)
	if !ok {
		return c.UniversalClient.EvalSha(ctx, sha1, keys, args...)
	}
	return e.script(ctx, redis.Pipeliner.EvalSha, sha1, keys, args)
}

// Eval is where they go on when Redis does not know the script.
func (c courier) Eval(ctx context.Context, script string, keys []string, args ...any) *redis.Cmd {
	e, ok := ctx.Value(errandKey{}).(*errand)
	if !ok {
		return c.UniversalClient.Eval(ctx, script, keys, args...)
	}
	return e.script(ctx, redis.Pipeliner.Eval, script, keys, args)
}

func (e *errand) script(ctx context.Context,
	run func(redis.Pipeliner, context.Context, string, []string, ...any) *redis.Cmd, script string, keys []string, args []any,
) *redis.Cmd {
	if answer := e.answer; answer != nil {
		e.answer = nil
		return answer
	}
	e.asked = run(e.pipe, ctx, script, keys, args...)
	return e.taken
}

// parcel is a task on its way into a queue.
type parcel struct {
	content *asynq.Task
	queue   string
	asked   *redis.Cmd // what is under way for it; nil when its err is final
	err     error      // as asynq's EnqueueContext says it
}

// post enqueues parcels as asynq's EnqueueContext does, in few round trips. An error
// stays with its parcel.
func (c *Client) post(ctx context.Context, parcels []*parcel) {
	e := &errand{taken: redis.NewCmd(ctx)}
	e.taken.SetVal(taken)
	on := context.WithValue(ctx, errandKey{}, e)
	e.pipe = c.rdb.Pipeline()
	for _, p := range parcels {
		c.ask(on, e, p, nil)
	}
	for e.pipe.Len() > 0 {
		c.send(ctx, e.pipe)
		e.pipe = c.rdb.Pipeline()
		for _, p := range parcels {
			if p.asked != nil {
				c.hear(on, e, p)
			}
		}
	}
}

// send runs what is in a pipeline. A lone command needs no connection of go-redis' few
// for pipelines. Each command has its own error then.
func (c *Client) send(ctx context.Context, pipe redis.Pipeliner) {
	if cmds := pipe.Cmds(); len(cmds) == 1 {
		_ = c.rdb.Process(ctx, cmds[0])
		return
	}
	_, _ = pipe.Exec(ctx)
}

// ask lets asynq enqueue one task, given the answer to what it asked before.
func (c *Client) ask(ctx context.Context, e *errand, p *parcel, answer *redis.Cmd) {
	e.asked, e.answer = nil, answer
	_, p.err = c.teller.EnqueueContext(ctx, p.content, asynq.Queue(p.queue))
	p.asked = e.asked
	if p.asked == nil && answer == nil && p.err == nil {
		p.err = errNotAsked
	}
}

// hear passes Redis' answer on. To an unknown script asynq replies with another
// question.
func (c *Client) hear(ctx context.Context, e *errand, p *parcel) {
	if answer := p.asked; answer.Err() != nil || answer.Val() != taken {
		c.ask(ctx, e, p, answer)
		if refused := answer.Err(); refused != nil && p.asked == nil {
			p.err = refused // asynq keeps but its text
		}
		return
	}
	p.asked = nil // asynq has accepted this very answer already
}

var errNotAsked = errors.New("asynq asked nothing of Redis")

// ErrRedisFull says that Redis has reached its memory limit and takes no more tasks,
// until some have been delivered and their results have run out, or the limit is raised.
// Repeating the call is safe, also for a task that was in the middle.
var ErrRedisFull = errors.New("Redis is out of memory (its maxmemory): let tasks be delivered, or raise maxmemory, then repeat") //nolint:staticcheck // the name of the program begins it

// enqueueError tells which task could not be enqueued.
func enqueueError(id string, err error) error {
	if redis.HasErrorPrefix(err, "OOM ") {
		err = fmt.Errorf("%w: %w", ErrRedisFull, err)
	}
	return fmt.Errorf("enqueue %s: %w", id, err)
}
