package worker

import (
	"context"
	"sync"

	"github.com/redis/go-redis/v9"
)

// redisHook is the go-redis hook that stands between asynq and Redis.
//
// It answers the scripts with which asynq servers ask for tasks, and look after queues, from
// the queues of the lanes: a [dequeuer] and a [fanOut] a server. It lets a dequeue through
// only when the queue's lane has a permit. Tasks that wait for their pace therefore stay
// pending: they hold no slot and no lease, and urgent ones pass bulk ones at once.
//
// asynq's retry of a task that is to wait in its queue puts it back there; see [requeue].
//
// Other calls of scripts that Redis knows share their round trips; see [sharing].
type redisHook struct {
	servers sync.Map // name of an asynq server's queue → sharedQueue
	batcher   scriptBatcher
}

// sharedQueue is what stands behind the queue of one asynq server.
type sharedQueue struct {
	dequeuer *dequeuer
	fanOut   *fanOut
	leases   *leases
}

func newRedisHook(rdb redis.UniversalClient) *redisHook {
	return &redisHook{batcher: scriptBatcher{pipeline: rdb.Pipeline}}
}

func (h *redisHook) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h *redisHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (h *redisHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if queue, ok := parseExtendLeases(cmd); ok {
			return h.extend(ctx, queue, cmd, next)
		}
		script, ok := cmd.(*redis.Cmd)
		if !ok || (cmd.Name() != "evalsha" && cmd.Name() != "eval") {
			return next(ctx, cmd)
		}
		if queue, key, ok := parseScript(cmd); ok {
			if found, shared := h.servers.Load(queue); shared {
				return h.serve(ctx, found.(sharedQueue), queue, key, script, next) //nolint:forcetypeassert // nothing else is stored
			}
		}
		if q, ok := parseRequeue(cmd); ok {
			return h.requeue(ctx, q, script, next)
		}
		if cmd.Name() == "eval" { // the script is not known to this Redis yet
			return next(ctx, cmd)
		}
		return h.batcher.do(ctx, script, func() error { return next(ctx, cmd) })
	}
}

// extend answers asynq's extension of the leases of a lane's queue.
func (h *redisHook) extend(ctx context.Context, queue string, cmd redis.Cmder, next redis.ProcessHook) error {
	if extends, ok := cmd.(*redis.IntCmd); ok {
		for _, s := range h.servers.Range {
			if s := s.(sharedQueue); s.dequeuer.serves(queue) { //nolint:forcetypeassert // nothing else is stored
				return s.leases.extend(ctx, queue, extends, next)
			}
		}
	}
	return next(ctx, cmd)
}

// wakeLane tells the lane of a queue that it has a task again.
func (h *redisHook) wakeLane(queue string) {
	for _, s := range h.servers.Range {
		s.(sharedQueue).dequeuer.wakeLane(queue) //nolint:forcetypeassert // nothing else is stored
	}
}

// serve answers a script about a server's own queue.
func (h *redisHook) serve(ctx context.Context, s sharedQueue, queue, key string, cmd *redis.Cmd, next redis.ProcessHook) error {
	switch {
	case isDequeue(cmd, queue):
		return s.dequeuer.dequeue(ctx, cmd, next)
	case key == keyScheduled, key == keyRetry, key == keyLease, key == keyCompleted:
		return s.fanOut.run(ctx, queue, key, cmd)
	default: // of an empty queue
		return next(ctx, cmd)
	}
}

// add has the hook answer the scripts about a server's queue, until remove.
func (h *redisHook) add(s sharedQueue) { h.servers.Store(s.dequeuer.queue, s) }

func (h *redisHook) remove(s sharedQueue) { h.servers.CompareAndDelete(s.dequeuer.queue, s) }

// isDequeue tells whether a script call is asynq's dequeue from a queue. Its keys are
// pending, paused, active, lease.
func isDequeue(cmd redis.Cmder, queue string) bool {
	args := cmd.Args()
	return len(args) >= 7 && args[3] == queuePrefix(queue)+"pending" && args[4] == queuePrefix(queue)+"paused"
}
