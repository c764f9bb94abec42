package worker

import (
	"context"
	_ "embed" // the script
	"math/rand/v2"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// place is where a task waits that was handed back.
type place uint8

const (
	retrySet   place = iota // in asynq's retry set, until its delay has passed
	queueFront              // in its queue, at once, and is the next to go
	queueBack               // in its queue, at once, behind all others
)

// asynq has no way for a handler to put its task back into the queue: it can only name a
// delay, and the task goes to the retry set. So a delay into the time before 1970, which no
// task is ever due at, stands for the queue: the hook sees it in asynq's retry script, and
// sends its own script in that one's place. Should the hook ever fail to recognize the
// script, the task is due at once.
//
// The instant is drawn at random from a range of its own for each place. It is the same however
// often asynq repeats the script of a run, and tells a repetition from a later run.
const (
	frontBefore = 0              // Unix seconds
	backBefore  = -2_000_000_000 // likewise
	instants    = 1_000_000_000  // how many there are of each
)

// requeueDelay is the delay that stands for a place in the queue.
func requeueDelay(p place, now time.Time) time.Duration {
	at := int64(frontBefore)
	if p == queueBack {
		at = backBefore
	}
	at -= 10 + rand.N(int64(instants)) //nolint:gosec // no secret
	return time.Duration(at-now.Unix()) * time.Second
}

// requeue is a task that goes back to its queue.
type requeue struct {
	queue, task, key string
	at               int64 // a time before 1970
}

// parseRequeue tells whether a command is asynq's retry script for a task that goes back to its
// queue. Like the dequeue, the script is known by its keys (task, active, lease, retry, …).
func parseRequeue(cmd redis.Cmder) (requeue, bool) {
	const keys, firstKey = 8, 3
	args := cmd.Args()
	if len(args) < firstKey+keys+3 || args[2] != keys {
		return requeue{}, false
	}
	at, ok := args[firstKey+keys+2].(int64)
	if !ok || at >= frontBefore {
		return requeue{}, false
	}
	key, _ := args[firstKey].(string)
	active, _ := args[firstKey+1].(string)
	task, _ := args[firstKey+keys].(string)
	prefix, ok := strings.CutSuffix(active, "active")
	if !ok || key != prefix+"t:"+task || args[firstKey+2] != prefix+"lease" || args[firstKey+3] != prefix+"retry" {
		return requeue{}, false
	}
	queue := strings.TrimSuffix(strings.TrimPrefix(prefix, "asynq:{"), "}:")
	return requeue{queue: queue, task: task, key: key, at: at}, true
}

var (
	//go:embed requeue.lua
	requeueSource string
	requeueScript = redis.NewScript(requeueSource)
)

// command is the call of the script, by its hash or whole.
func (q requeue) command(ctx context.Context, name, script string) *redis.Cmd {
	push, prefix := "RPUSH", "asynq:{"+q.queue+"}:"
	if q.at < backBefore {
		push = "LPUSH"
	}
	return redis.NewCmd(ctx, name, script, 4, q.key, prefix+"active", prefix+"lease", prefix+"pending", q.task, q.at, push)
}

// requeue answers asynq's retry script: the task goes back to its queue. What asynq does
// about an error is right here, too: it repeats the call as long as its lease lasts.
func (h *redisHook) requeue(ctx context.Context, q requeue, cmd *redis.Cmd, next redis.ProcessHook) error {
	mine := q.command(ctx, "evalsha", requeueScript.Hash())
	err := h.batcher.do(ctx, mine, func() error { return next(ctx, mine) })
	if redis.HasErrorPrefix(err, "NOSCRIPT") {
		mine = q.command(ctx, "eval", requeueSource)
		err = next(ctx, mine)
	}
	cmd.SetVal(mine.Val())
	cmd.SetErr(err)
	if err == nil {
		h.wakeLane(q.queue)
	}
	return err
}
