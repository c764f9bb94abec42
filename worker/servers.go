package worker

import (
	"context"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/hibiken/asynq"
)

const (
	// maxServers is how many asynq servers a replica runs at most. Each costs a connection
	// to Redis, some goroutines and five commands every five seconds.
	maxServers = 4
	// serverSlots is an asynq server's concurrency: more than its lanes fill, whose own
	// concurrency their gates keep.
	serverSlots = 1 << 14
	// serverQueue begins the name of the one queue of an asynq server, which is never in
	// Redis; see [dequeuer]. asynqmon shows it on its page of the servers.
	serverQueue = "wxcourier-lanes-"
	// asynqPoll is asynq's pause between two looks at an empty queue. The dequeuer decides
	// when there is something to look for; this only hands control back to it.
	asynqPoll = time.Millisecond
	// delayedPoll is how often asynq moves tasks that have become due to pending.
	delayedPoll = time.Second
	// asynqMargin is how much longer asynq's own patience at shutdown is than ours.
	// Past it asynq hands back tasks that are still being sent; the process has ended
	// before.
	asynqMargin = 5 * time.Second
)

// laneServers are the asynq servers that the lanes of a replica share. One starts when a
// lane needs it, and ends with the last of its lanes.
type laneServers struct {
	replica *Replica
	lanes   sync.Map // queue → *lane, of those that are open

	mu      sync.Mutex
	running []*laneServer // guarded by mu
	started int           // guarded by mu; numbers the servers
}

// laneServer is one of them.
type laneServer struct {
	asynq *asynq.Server
	queue sharedQueue
	lanes int // guarded by laneServers.mu
}

// join has a server dequeue for a lane: a new one while there are few, else the one with
// the fewest lanes.
func (s *laneServers) join(l *lane) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, q := range l.gate.queues {
		s.lanes.Store(q.name, l)
	}
	if len(s.running) == maxServers {
		l.server = s.running[0]
		for _, other := range s.running {
			if other.lanes < l.server.lanes {
				l.server = other
			}
		}
		l.server.lanes++
		l.server.queue.dequeuer.add(l.gate)
		return nil
	}
	l.server = s.newServer()
	l.server.lanes++
	l.server.queue.dequeuer.add(l.gate) // before the start: then asynq recovers lost tasks at once
	s.replica.hook.add(l.server.queue)
	if err := l.server.asynq.Start(asynq.HandlerFunc(s.handle)); err != nil {
		s.replica.hook.remove(l.server.queue)
		l.gate.close()
		return err
	}
	s.running = append(s.running, l.server)
	return nil
}

// newServer makes a server. The caller holds mu.
func (s *laneServers) newServer() *laneServer {
	r := s.replica
	s.started++
	name := serverQueue + strconv.Itoa(s.started)
	d := newDequeuer(name, r.rdb.Pipeline)
	return &laneServer{
		queue: sharedQueue{dequeuer: d, fanOut: newFanOut(r.rdb, d.lanes), leases: newLeases(r.rdb.Pipeline)},
		asynq: asynq.NewServerFromRedisClient(r.rdb, asynq.Config{
			Concurrency:              serverSlots,
			Queues:                   map[string]int{name: 1},
			TaskCheckInterval:        asynqPoll,
			DelayedTaskCheckInterval: delayedPoll,
			ShutdownTimeout:          r.cfg.ShutdownTimeout + asynqMargin,
			RetryDelayFunc:           retryDelay,
			IsFailure:                isFailure,
			ErrorHandler:             asynq.ErrorHandlerFunc(s.failed),
			Logger:                   asynqLog{r.log, &logThrottle{}},
			LogLevel:                 asynq.InfoLevel,
		}),
	}
}

// leave ends a lane's share in its server; the last one ends the server.
func (s *laneServers) leave(l *lane) {
	for _, q := range l.gate.queues {
		s.lanes.CompareAndDelete(q.name, l)
	}
	l.server.queue.dequeuer.remove(l.gate)
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

// stop ends a server when all that is in flight has ended. Its lanes have stopped.
func (s *laneServers) stop(server *laneServer) {
	server.queue.dequeuer.close()
	server.asynq.Stop()
	server.asynq.Shutdown()
	s.replica.hook.remove(server.queue)
}

// handle runs a task in its lane. The lane may have closed since it was dequeued; then it
// comes back.
func (s *laneServers) handle(ctx context.Context, t *asynq.Task) (err error) {
	l := s.laneOf(ctx)
	if l == nil {
		return retryLater(0, "its lane has closed")
	}
	queue, _ := asynq.GetQueueName(ctx)
	id, _ := asynq.GetTaskID(ctx)
	l.server.queue.leases.begin(queue, id)
	defer l.server.queue.leases.end(queue, id)
	s.replica.pool.run(func() { err = l.handle(ctx, t) })
	return err
}

// failed hears of the runs that failed, and of tasks that asynq did not run.
func (s *laneServers) failed(ctx context.Context, t *asynq.Task, err error) {
	if l := s.laneOf(ctx); l != nil {
		l.expire(ctx, t, err)
	}
}

// laneOf returns the lane of a task; nil when it is not open.
func (s *laneServers) laneOf(ctx context.Context) *lane {
	queue, _ := asynq.GetQueueName(ctx)
	found, _ := s.lanes.Load(queue)
	l, _ := found.(*lane)
	return l
}

// donePreparing notes that a task is about to wait for another system, WeChat as a rule, or for its
// receiver, and needs little else: it makes room for the tasks of other lanes.
func (s *laneServers) donePreparing(j *job) {
	found, _ := s.lanes.Load(j.queue)
	if l, ok := found.(*lane); ok {
		begun, _ := l.running.Load(j.TaskID())
		r, _ := begun.(*startedTask)
		l.gate.admission.end(r)
	}
}
