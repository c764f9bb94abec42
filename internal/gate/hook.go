package gate

import (
	"context"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/asynqwire"
)

// Hook is the go-redis hook between the asynq servers and Redis.
//
// It answers the scripts with which an asynq server dequeues tasks and maintains its queue
// from the queues of the server's lanes, by a [dequeuer] and a [fanOut] each. A dequeue is
// sent only when the queue's lane has a permit. Tasks that wait for a permit therefore stay
// pending: they hold no slot and no lease, and urgent tasks pass bulk tasks at once.
//
// It turns asynq's retry of a task that should wait in its queue into a requeue; see
// [asynqwire.Requeue].
//
// Other script calls by hash share round trips; see [scriptBatcher].
type Hook struct {
	rdb     redis.UniversalClient
	prefix  string   // of each dequeued message; see WithRetention
	servers sync.Map // name of an asynq server's queue → *sharedQueue
	batcher scriptBatcher
}

// A HookOption configures a Hook.
type HookOption func(*Hook)

// WithRetention makes asynq keep the tasks of the lanes for so long after they have completed,
// unless their producers chose a retention. It costs no command: asynq gets each message with the
// retention in it, and then ends the task by another script.
func WithRetention(d time.Duration) HookOption {
	return func(h *Hook) { h.prefix = asynqwire.RetentionPrefix(d) }
}

// NewHook makes the hook of a client, which the caller adds to it.
func NewHook(rdb redis.UniversalClient, options ...HookOption) *Hook {
	h := &Hook{rdb: rdb, batcher: scriptBatcher{pipeline: rdb.Pipeline}}
	for _, option := range options {
		option(h)
	}
	return h
}

// Server answers the commands of one asynq server, which has a single queue that exists
// only as a name, from the queues of the lanes that share the server.
type Server struct {
	dequeuer *dequeuer
	fanOut   *fanOut
	leases   *leases
}

// NewServer makes the hook answer the commands of the asynq server whose queue has this name,
// until RemoveServer.
func (h *Hook) NewServer(queue string) *Server {
	d := newDequeuer(queue, h.rdb.Pipeline)
	d.prefix = h.prefix
	s := &Server{dequeuer: d, fanOut: newFanOut(h.rdb, d.lanes), leases: newLeases(h.rdb.Pipeline)}
	h.servers.Store(queue, s)
	return s
}

// RemoveServer removes a server, after its asynq server has shut down.
func (h *Hook) RemoveServer(s *Server) { h.servers.CompareAndDelete(s.dequeuer.queue, s) }

// Add adds a lane, whose gate begins to dequeue.
func (s *Server) Add(g *Gate) { s.dequeuer.add(g) }

// Remove removes a lane, whose gate has closed.
func (s *Server) Remove(g *Gate) { s.dequeuer.remove(g) }

// Close ends the waits of asynq's dequeues. All lanes must have been removed.
func (s *Server) Close() { s.dequeuer.close() }

// HandlerStarted reports that a task of a lane's queue has a handler. Its lease is extended
// until HandlerEnded. id is asynq's id of the task.
func (s *Server) HandlerStarted(queue, id string) { s.leases.begin(queue, id) }

// HandlerEnded reports that the handler has returned.
func (s *Server) HandlerEnded(queue, id string) { s.leases.end(queue, id) }

// DialHook implements redis.Hook.
func (h *Hook) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessPipelineHook implements redis.Hook.
func (h *Hook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// ProcessHook implements redis.Hook.
func (h *Hook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if queue, ok := asynqwire.ParseExtendLeases(cmd); ok {
			return h.extend(ctx, queue, cmd, next)
		}
		script, ok := cmd.(*redis.Cmd)
		if !ok || !asynqwire.IsScript(cmd) {
			return next(ctx, cmd)
		}
		if queue, key, ok := asynqwire.ParseScript(cmd); ok {
			if found, shared := h.servers.Load(queue); shared {
				return h.serve(ctx, found.(*Server), queue, key, script, next) //nolint:forcetypeassert // nothing else is stored
			}
		}
		if q, ok := asynqwire.ParseRequeue(cmd); ok {
			return h.requeue(ctx, q, script, next)
		}
		if cmd.Name() == "eval" { // asynq sends the whole script after a NOSCRIPT
			return next(ctx, cmd)
		}
		return h.batcher.do(ctx, script, func() error { return next(ctx, cmd) })
	}
}

// extend answers asynq's command that extends the leases of a lane's queue.
func (h *Hook) extend(ctx context.Context, queue string, cmd redis.Cmder, next redis.ProcessHook) error {
	if extends, ok := cmd.(*redis.IntCmd); ok {
		for _, s := range h.servers.Range {
			if s := s.(*Server); s.dequeuer.serves(queue) { //nolint:forcetypeassert // nothing else is stored
				return s.leases.extend(ctx, queue, extends, next)
			}
		}
	}
	return next(ctx, cmd)
}

// wakeLane wakes the lane of a queue that has a task again.
func (h *Hook) wakeLane(queue string) {
	for _, s := range h.servers.Range {
		s.(*Server).dequeuer.wakeLane(queue) //nolint:forcetypeassert // nothing else is stored
	}
}

// serve answers a script about a server's own queue.
func (h *Hook) serve(ctx context.Context, s *Server, queue, key string, cmd *redis.Cmd, next redis.ProcessHook) error {
	switch {
	case asynqwire.IsDequeue(cmd, queue):
		return s.dequeuer.dequeue(ctx, cmd, next)
	case key == asynqwire.Scheduled, key == asynqwire.Retry, key == asynqwire.Lease, key == asynqwire.Completed:
		return s.fanOut.run(ctx, queue, key, cmd)
	default: // the server's own queue is empty, so the script does nothing
		return next(ctx, cmd)
	}
}

// requeue puts the task back into its queue, and answers asynq's retry script. After an
// error asynq repeats the script until the task's lease ends, as for a retry.
func (h *Hook) requeue(ctx context.Context, q asynqwire.Requeue, cmd *redis.Cmd, next redis.ProcessHook) error {
	mine := q.Command(ctx)
	err := h.batcher.do(ctx, mine, func() error { return next(ctx, mine) })
	if redis.HasErrorPrefix(err, "NOSCRIPT") {
		mine = q.FullCommand(ctx)
		err = next(ctx, mine)
	}
	cmd.SetVal(mine.Val())
	cmd.SetErr(err)
	if err == nil {
		h.wakeLane(q.Queue)
	}
	return err
}
