package worker

import (
	"context"
	_ "embed" // the script
	"math/rand/v2"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// place is where a handed-back task waits.
type place uint8

const (
	retrySet   place = iota // in asynq's retry set, until its delay ends
	queueFront              // in its queue, as the next task
	queueBack               // in its queue, behind all other tasks
)

// A handler of asynq cannot put its task back into the queue; it can only return a delay,
// and asynq moves the task to the retry set. A delay that ends before 1970 therefore stands
// for the queue: redisHook recognizes it in asynq's retry script, and sends its own script
// instead. If it ever fails to recognize the script, the task is due at once.
//
// The instant is random, from one range for each place. It is the same whenever asynq
// repeats the script of one run, and differs between runs, so the script can detect a
// repetition.
const (
	frontBefore = 0              // Unix seconds
	backBefore  = -2_000_000_000 // likewise
	instants    = 1_000_000_000  // size of each range
)

// requeueDelay returns the delay that stands for a place in the queue.
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
	at               int64 // Unix seconds, negative; identifies the run and the place
}

// parseRequeue returns the requeue that asynq's retry script stands for; ok is false for
// other commands. Like the dequeue, it recognizes the script by its keys (task, active,
// lease, retry, …).
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

// command returns the call of the script: name is "evalsha" with the hash, or "eval" with the
// source.
func (q requeue) command(ctx context.Context, name, script string) *redis.Cmd {
	push, prefix := "RPUSH", "asynq:{"+q.queue+"}:"
	if q.at < backBefore {
		push = "LPUSH"
	}
	return redis.NewCmd(ctx, name, script, 4, q.key, prefix+"active", prefix+"lease", prefix+"pending", q.task, q.at, push)
}

// requeue puts the task back into its queue, and answers asynq's retry script. After an
// error asynq repeats the script until the task's lease ends, as for a retry.
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
