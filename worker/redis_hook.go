package worker

import (
	"context"
	"sync"

	"github.com/redis/go-redis/v9"
)

// redisHook is the go-redis hook between the asynq servers and Redis.
//
// It answers the scripts with which an asynq server dequeues tasks and maintains its queue
// from the queues of the server's lanes, by a [dequeuer] and a [fanOut] each. A dequeue is
// sent only when the queue's lane has a permit. Tasks that wait for a permit therefore stay
// pending: they hold no slot and no lease, and urgent tasks pass bulk tasks at once.
//
// It turns asynq's retry of a task that should wait in its queue into a requeue; see
// [requeue].
//
// Other script calls by hash share round trips; see [scriptBatcher].
type redisHook struct {
	servers sync.Map // name of an asynq server's queue → sharedQueue
	batcher scriptBatcher
}

// sharedQueue answers the commands about the queue of one asynq server.
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
		if cmd.Name() == "eval" { // asynq sends the whole script after a NOSCRIPT
			return next(ctx, cmd)
		}
		return h.batcher.do(ctx, script, func() error { return next(ctx, cmd) })
	}
}

// extend answers asynq's command that extends the leases of a lane's queue.
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

// wakeLane wakes the lane of a queue that has a task again.
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
	default: // the server's own queue is empty, so the script does nothing
		return next(ctx, cmd)
	}
}

// add makes the hook answer the scripts about a server's queue, until remove.
func (h *redisHook) add(s sharedQueue) { h.servers.Store(s.dequeuer.queue, s) }

func (h *redisHook) remove(s sharedQueue) { h.servers.CompareAndDelete(s.dequeuer.queue, s) }

// isDequeue reports whether a script call is asynq's dequeue from a queue. The keys of that
// script are pending, paused, active, lease.
func isDequeue(cmd redis.Cmder, queue string) bool {
	args := cmd.Args()
	return len(args) >= 7 && args[3] == queuePrefix(queue)+"pending" && args[4] == queuePrefix(queue)+"paused"
}
