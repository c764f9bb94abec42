package worker

import (
	"context"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/gate"
	"github.com/wxcourier/wxcourier/internal/workerpool"
)

const (
	// maxServers bounds the asynq servers of a replica. Each costs a connection to Redis,
	// some goroutines and five commands every five seconds.
	maxServers = 4
	// serverSlots is an asynq server's concurrency, more than its lanes need: the gates
	// limit the concurrency of each lane.
	serverSlots = 1 << 14
	// serverQueue is the prefix of the name of an asynq server's only queue, which does not
	// exist in Redis; see [dequeuer]. asynqmon shows the name on its page of the servers.
	serverQueue = "wxcourier-lanes-"
	// replicaQueue is the same for the server without lanes, see [laneServers.register].
	replicaQueue = "wxcourier-replica"
	// asynqPoll is asynq's pause after a dequeue from an empty queue. It is short because
	// the dequeuer already waits until there may be work.
	asynqPoll = time.Millisecond
	// delayedPoll is how often asynq moves tasks that have become due to pending.
	delayedPoll = time.Second
	// asynqMargin is how much longer asynq's shutdown timeout is than ours. At its timeout
	// asynq would requeue tasks that are still being sent; the process has exited by then.
	asynqMargin = 5 * time.Second
)

// laneServers are the asynq servers that the lanes of a replica share. A server starts with
// its first lane and stops with its last.
type laneServers struct {
	rdb             redis.UniversalClient
	hook            *gate.Hook // of rdb
	shutdownTimeout time.Duration
	log             *slog.Logger

	lanes sync.Map // queue → *lane, for the open lanes
	pool  workerpool.Pool

	registered *laneServer // between register and unregister; owned by Replica.Run

	mu      sync.Mutex
	running []*laneServer // guarded by mu
	started int           // guarded by mu; servers started so far, for their names
}

// laneServer is one asynq server.
type laneServer struct {
	asynq *asynq.Server
	queue *gate.Server
	lanes int // guarded by laneServers.mu
}

// join adds a lane to a server: to a new one while there are less than maxServers, else to
// the one with the fewest lanes.
func (s *laneServers) join(l *lane) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, q := range l.queues {
		s.lanes.Store(q, l)
	}
	if len(s.running) == maxServers {
		l.server = s.running[0]
		for _, other := range s.running {
			if other.lanes < l.server.lanes {
				l.server = other
			}
		}
		l.server.lanes++
		l.server.queue.Add(l.gate)
		return nil
	}
	l.server = s.newServer()
	l.server.lanes++
	l.server.queue.Add(l.gate) // before the start, when asynq recovers tasks with expired leases
	if err := l.server.asynq.Start(asynq.HandlerFunc(s.handle)); err != nil {
		l.gate.Close()
		s.hook.RemoveServer(l.server.queue)
		return err
	}
	s.running = append(s.running, l.server)
	return nil
}

// newServer makes a server. The caller holds mu.
func (s *laneServers) newServer() *laneServer {
	s.started++
	return s.newServerOf(serverQueue+strconv.Itoa(s.started), serverSlots)
}

// newServerOf makes a server with a queue of this name.
func (s *laneServers) newServerOf(name string, slots int) *laneServer {
	return &laneServer{
		queue: s.hook.NewServer(name),
		asynq: asynq.NewServerFromRedisClient(s.rdb, asynq.Config{
			Concurrency:              slots,
			Queues:                   map[string]int{name: 1},
			TaskCheckInterval:        asynqPoll,
			DelayedTaskCheckInterval: delayedPoll,
			ShutdownTimeout:          s.shutdownTimeout + asynqMargin,
			RetryDelayFunc:           retryDelay,
			IsFailure:                isFailure,
			ErrorHandler:             asynq.ErrorHandlerFunc(s.failed),
			Logger:                   asynqLog{s.log, &logThrottle{}},
			LogLevel:                 asynq.InfoLevel,
		}),
	}
}

// register starts an asynq server without lanes, so that the asynq web UI lists this replica as a
// server while it has no work. It costs a connection to Redis, some goroutines and three commands
// every five seconds.
func (s *laneServers) register() {
	server := s.newServerOf(replicaQueue, 1)
	if err := server.asynq.Start(asynq.HandlerFunc(s.handle)); err != nil {
		s.log.Warn("the replica is not listed in the asynq web UI", slog.Any("err", err))
		s.hook.RemoveServer(server.queue)
		return
	}
	s.registered = server
}

// removeTimeout bounds how long a replica that stops waits for Redis to take it off the list in the
// asynq web UI.
const removeTimeout = time.Second

// unregister stops the server of register, and waits for it, not long: Redis may hang.
func (s *laneServers) unregister() {
	if s.registered == nil {
		return
	}
	stopped := make(chan struct{})
	go func(server *laneServer) {
		defer close(stopped)
		s.stop(server)
	}(s.registered)
	s.registered = nil
	select {
	case <-stopped:
	case <-time.After(removeTimeout):
	}
}

// leave removes a lane from its server, and stops the server after the last lane.
func (s *laneServers) leave(l *lane) {
	for _, q := range l.queues {
		s.lanes.CompareAndDelete(q, l)
	}
	l.server.queue.Remove(l.gate)
	s.mu.Lock()
	l.server.lanes--
	last := l.server.lanes == 0
	if last {
		s.running = slices.DeleteFunc(s.running, func(other *laneServer) bool { return other == l.server })
	}
	s.mu.Unlock()
	if last {
		s.stop(l.server)
	}
}

// stop stops a server, and waits for its handlers. Its lanes must have stopped.
func (s *laneServers) stop(server *laneServer) {
	server.queue.Close()
	server.asynq.Stop()
	server.asynq.Shutdown()
	s.hook.RemoveServer(server.queue)
}

// handle runs a task in its lane. It hands the task back when the lane has closed since the
// dequeue.
func (s *laneServers) handle(ctx context.Context, t *asynq.Task) (err error) {
	l := s.laneOf(ctx)
	if l == nil {
		return retryLater(0, "its lane has closed")
	}
	queue, _ := asynq.GetQueueName(ctx)
	id, _ := asynq.GetTaskID(ctx)
	l.server.queue.HandlerStarted(queue, id)
	defer l.server.queue.HandlerEnded(queue, id)
	s.pool.Run(func() { err = l.handle(ctx, t) })
	return err
}

// failed is asynq's ErrorHandler: asynq calls it after failed runs, and for tasks that it did
// not run.
func (s *laneServers) failed(ctx context.Context, t *asynq.Task, err error) {
	if l := s.laneOf(ctx); l != nil {
		l.expire(ctx, t, err)
	}
}

// laneOf returns the lane of a task; nil when the lane is closed.
func (s *laneServers) laneOf(ctx context.Context) *lane {
	queue, _ := asynq.GetQueueName(ctx)
	found, _ := s.lanes.Load(queue)
	l, _ := found.(*lane)
	return l
}
