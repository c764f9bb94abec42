package asynqwire

import (
	"context"
	_ "embed" // the script
	"math/rand/v2"
	"time"

	"github.com/redis/go-redis/v9"
)

// Place is where a task waits that its handler hands back.
type Place uint8

// The places.
const (
	RetrySet   Place = iota // in asynq's retry set, until its delay ends
	QueueFront              // in its queue, as the next task
	QueueBack               // in its queue, behind all other tasks
)

// A handler of asynq cannot put its task back into the queue; it can only return a delay,
// and asynq moves the task to the retry set. A delay that ends before 1970 therefore stands
// for the queue: a go-redis hook recognizes it in asynq's retry script by [ParseRequeue], and
// sends its own script instead. If it ever fails to recognize the script, the task is due at
// once.
//
// The instant is random, from one range for each place. It is the same whenever asynq
// repeats the script of one run, and differs between runs, so the script can detect a
// repetition.
const (
	frontBefore = 0              // Unix seconds
	backBefore  = -2_000_000_000 // likewise
	instants    = 1_000_000_000  // size of each range
)

// RequeueDelay returns the delay, for asynq's RetryDelayFunc, that stands for a place in the
// queue. p is QueueFront or QueueBack.
func RequeueDelay(p Place, now time.Time) time.Duration {
	at := int64(frontBefore)
	if p == QueueBack {
		at = backBefore
	}
	at -= 10 + rand.N(int64(instants)) //nolint:gosec // no secret
	return time.Duration(at-now.Unix()) * time.Second
}

// Requeue is a task that goes back to its queue.
type Requeue struct {
	Queue, Task string
	At          int64 // Unix seconds, negative; identifies the run and the place
}

// ParseRequeue returns the requeue that asynq's retry script stands for; ok is false for
// other commands. Like [IsDequeue], it recognizes the script by its keys (task, active,
// lease, retry, …).
func ParseRequeue(cmd redis.Cmder) (q Requeue, ok bool) {
	const keys = 8
	args := cmd.Args()
	if len(args) < firstKey+keys+3 || args[firstKey-1] != keys {
		return Requeue{}, false
	}
	at, ok := args[firstKey+keys+2].(int64)
	if !ok || at >= frontBefore {
		return Requeue{}, false
	}
	active, _ := args[firstKey+1].(string)
	task, _ := args[firstKey+keys].(string)
	queue, name, ok := ParseKey(active)
	if !ok || name != Active || args[firstKey] != TaskKey(queue, task) ||
		args[firstKey+2] != Key(queue, Lease) || args[firstKey+3] != Key(queue, Retry) {
		return Requeue{}, false
	}
	return Requeue{Queue: queue, Task: task, At: at}, true
}

var (
	//go:embed requeue.lua
	requeueSource string
	requeueHash   = redis.NewScript(requeueSource).Hash()
)

// Command returns the call of the script that requeues the task, by the script's hash. Redis
// answers as asynq's retry script would: OK, or an error when the task is no longer active.
func (q Requeue) Command(ctx context.Context) *redis.Cmd {
	return q.command(ctx, "evalsha", requeueHash)
}

// FullCommand returns the call with the script's source, for a Redis that does not know it.
func (q Requeue) FullCommand(ctx context.Context) *redis.Cmd {
	return q.command(ctx, "eval", requeueSource)
}

func (q Requeue) command(ctx context.Context, name, script string) *redis.Cmd {
	push := "RPUSH"
	if q.At < backBefore {
		push = "LPUSH"
	}
	return redis.NewCmd(ctx, name, script, 4,
		TaskKey(q.Queue, q.Task), Key(q.Queue, Active), Key(q.Queue, Lease), Key(q.Queue, Pending), q.Task, q.At, push)
}

// runRetry moves a task from asynq's retry set to the head of its queue, so that it is the
// next one that is dequeued.
//
// KEYS[1] retry set, KEYS[2] pending list, KEYS[3] task
// ARGV[1] id, ARGV[2] now, ns since 1970, as asynq stores it
//
// Returns 1, or 0 when the task is not in the retry set.
var runRetry = redis.NewScript(`
if redis.call("ZREM", KEYS[1], ARGV[1]) == 0 then return 0 end
redis.call("RPUSH", KEYS[2], ARGV[1])
redis.call("HSET", KEYS[3], "state", "pending", "pending_since", ARGV[2])
return 1
`)

// RunRetry makes a task of the retry set the next one of its queue. moved is false when the
// task is not in the retry set. asynq's Inspector has RunTask for that, which appends the task
// to the queue instead.
func RunRetry(ctx context.Context, rdb redis.Scripter, queue, task string) (moved bool, err error) {
	return runRetry.Run(ctx, rdb, []string{Key(queue, Retry), Key(queue, Pending), TaskKey(queue, task)}, task, time.Now().UnixNano()).Bool()
}
