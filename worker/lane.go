package worker

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/hibiken/asynq"

	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/tasks"
)

const (
	// asynqPoll is asynq's pause between two looks at empty queues. The gate decides
	// when there is something to look for; this only hands control back to it.
	asynqPoll = time.Millisecond
	// delayedPoll is how often asynq moves tasks that have become due to pending.
	delayedPoll = time.Second
	// asynqShutdown is asynq's own patience at shutdown. Ours comes first: a lane is
	// shut down when nothing is in flight any more.
	asynqShutdown = time.Second
)

// A lane is one (app, type) on this replica: an asynq server of its own, with its own
// queues, concurrency and permits. It is open from newLane to stop.
type lane struct {
	app, typ string
	gate     *gate
	pace     *lanePace
	server   *asynq.Server
	replica  *Replica
	runs     atomic.Int64 // numbers the runs, for newRunner

	idle time.Time // the watcher's: since when there is nothing to do; zero while there is
}

// openLane starts a lane. It asks Redis nothing by itself.
func (r *Replica) openLane(app, typ string) (*lane, error) {
	l := &lane{app: app, typ: typ, replica: r, pace: &lanePace{limiter: r.limiter, app: app, typ: typ, waited: r.metrics.waitedFor(typ)}}
	urgent := tasks.QueueName(app, typ, tasks.Urgent)
	bulk := tasks.QueueName(app, typ, tasks.Bulk)
	l.gate = newGate([]string{urgent, bulk}, l.pace)
	r.hook.add(l.gate)
	l.server = asynq.NewServerFromRedisClient(r.rdb, asynq.Config{
		Concurrency:              r.limiter.Concurrency(app, typ),
		Queues:                   map[string]int{urgent: 2, bulk: 1},
		StrictPriority:           true,
		TaskCheckInterval:        asynqPoll,
		DelayedTaskCheckInterval: delayedPoll,
		ShutdownTimeout:          asynqShutdown,
		RetryDelayFunc:           retryDelay,
		IsFailure:                isFailure,
		Logger:                   asynqLog{r.log.With("app", app, "type", typ)},
		LogLevel:                 asynq.InfoLevel,
	})
	err := l.server.Start(asynq.HandlerFunc(func(ctx context.Context, t *asynq.Task) error {
		defer l.gate.active.Add(-1)
		return r.deliver(ctx, l, t)
	}))
	if err != nil {
		r.hook.remove(l.gate)
		return nil, fmt.Errorf("open the lane of %s %s: %w", app, typ, err)
	}
	return l, nil
}

// stop ends dequeuing at once. What is in flight goes on.
func (l *lane) stop() {
	l.gate.close()
	l.server.Stop()
}

// shutdown ends the lane. Call it when nothing is in flight.
func (l *lane) shutdown() {
	l.server.Shutdown()
	l.replica.hook.remove(l.gate)
	l.pace.limiter.rest(l.app, l.typ) // what the handlers gave back
}

// newRunner names a run: no two runs of any replica share a name.
func (l *lane) newRunner() string {
	return l.replica.id + "/" + l.typ + "/" + strconv.FormatInt(l.runs.Add(1), 10)
}

// lanePace binds the limiter to one lane.
type lanePace struct {
	limiter  limiter
	app, typ string
	waited   func(time.Duration)
}

func (p *lanePace) Acquire(ctx context.Context, wake <-chan struct{}) (*ratelimit.Permit, error) {
	start := time.Now()
	permit, err := p.limiter.Ahead(ctx, p.app, p.typ, wake)
	if err == nil {
		p.waited(time.Since(start))
	}
	return permit, err
}

// Release gives back the permit of a lane that goes to sleep or closes, and what else
// was leased for it.
func (p *lanePace) Release(permit *ratelimit.Permit) {
	p.limiter.release(permit)
	p.limiter.rest(p.app, p.typ)
}

// rest gives back what was leased for a lane that has nothing to do.
func (l limiter) rest(app, typ string) {
	ctx, cancel := context.WithTimeout(context.Background(), redisAnswer)
	defer cancel()
	if err := l.Rest(ctx, app, typ); err != nil {
		l.log.Debug("leased permits could not be given back", slog.Any("err", err))
	}
}

// drain waits until nothing is in flight.
func (l *lane) drain() {
	t := time.NewTicker(5 * time.Millisecond)
	defer t.Stop()
	for l.gate.active.Load() > 0 {
		<-t.C
	}
}
