package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hibiken/asynq"

	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/tasks"
)

const (
	// asynqPoll is asynq's pause between two looks at empty queues. The gate decides
	// when there is something to look for; this only hands control back to it.
	asynqPoll = time.Millisecond
	// delayedPoll is how often asynq moves tasks that have become due to pending.
	delayedPoll = time.Second
	// asynqMargin is how much longer asynq's own patience at shutdown is than ours.
	// Past it asynq hands back tasks that are still being sent; the process has ended
	// before.
	asynqMargin = 5 * time.Second
)

// A lane is one (app, type) on this replica: an asynq server of its own, with its own
// queues, concurrency and permits. It is open from newLane to stop.
type lane struct {
	app, typ string
	gate     *gate
	pace     *lanePace
	server   *asynq.Server
	replica  *Replica
	active   atomic.Int64 // handlers that are running
	running  sync.Map     // the asynq ids of their tasks

	idle time.Time // the watcher's: since when there is nothing to do; zero while there is
}

// openLane starts a lane. It asks Redis nothing by itself.
func (r *Replica) openLane(app, typ string) (*lane, error) {
	l := &lane{app: app, typ: typ, replica: r, pace: &lanePace{limiter: r.limiter, app: app, typ: typ, waited: r.metrics.waitedFor(typ)}}
	urgent := tasks.QueueName(app, typ, tasks.Urgent)
	bulk := tasks.QueueName(app, typ, tasks.Bulk)
	slots := r.limiter.Concurrency(app, typ)
	l.gate = newGate([]string{urgent, bulk}, l.pace, func() int { return slots - int(l.active.Load()) })
	r.hook.add(l.gate)
	l.server = asynq.NewServerFromRedisClient(r.rdb, asynq.Config{
		Concurrency:              slots,
		Queues:                   map[string]int{urgent: 2, bulk: 1},
		StrictPriority:           true,
		TaskCheckInterval:        asynqPoll,
		DelayedTaskCheckInterval: delayedPoll,
		ShutdownTimeout:          r.cfg.ShutdownTimeout + asynqMargin,
		RetryDelayFunc:           retryDelay,
		IsFailure:                isFailure,
		ErrorHandler:             asynq.ErrorHandlerFunc(l.expire),
		Logger:                   asynqLog{r.log.With("app", app, "type", typ), &repeats{}},
		LogLevel:                 asynq.InfoLevel,
	})
	err := l.server.Start(asynq.HandlerFunc(func(ctx context.Context, t *asynq.Task) (err error) {
		r.crew.do(func() { err = l.handle(ctx, t) })
		return err
	}))
	if err != nil {
		r.hook.remove(l.gate)
		return nil, fmt.Errorf("open the lane of %s %s: %w", app, typ, err)
	}
	r.learner.follow(l)
	return l, nil
}

// handle runs one task. A panic that gets here is a fault of ours; the fence tells the
// next run what may have happened.
func (l *lane) handle(ctx context.Context, t *asynq.Task) (err error) {
	id, _ := asynq.GetTaskID(ctx)
	l.active.Add(1)
	l.running.Store(id, true)
	defer func() {
		l.running.Delete(id)
		l.active.Add(-1)
		if v := recover(); v != nil {
			l.replica.log.Error("panic in a delivery", slog.String("app", l.app), slog.String("type", l.typ),
				slog.String("panic", fmt.Sprintf("%T", v)), slog.String("stack", string(debug.Stack())))
			err = &handedBack{delay: retries[0], counts: true, why: "panic in a delivery"}
		}
	}()
	return l.replica.deliver(ctx, l, t)
}

// expire ends a task that was past its deadline in asynq before it could run. Only a
// producer that set asynq's Deadline or Timeout itself meets this.
func (l *lane) expire(ctx context.Context, t *asynq.Task, err error) {
	id, _ := asynq.GetTaskID(ctx)
	if _, runs := l.running.Load(id); runs || !errors.Is(err, context.DeadlineExceeded) {
		return
	}
	ctx = context.WithoutCancel(ctx)
	j, err := newJob(ctx, l, t)
	if err != nil {
		return
	}
	j.opened, err = l.replica.ledger.Open(ctx, j.ref(), ledger.Opening{Runner: j.runner, Queue: j.queue, Marked: j.marked, Enqueued: j.enqueuedAt, Expired: true})
	if err == nil {
		_ = l.replica.unsent(ctx, j) // asynq brings the task back, and finds it settled
	}
}

// stop ends dequeuing at once. What is in flight goes on. What was taken ahead gets to its
// handlers first, and they hand it back: asynq has no other way to return it.
func (l *lane) stop() {
	l.gate.close()
	for began := time.Now(); !l.gate.drained() && time.Since(began) < l.replica.cfg.ShutdownTimeout; {
		time.Sleep(asynqPoll)
	}
	l.server.Stop()
}

// shutdown ends a stopped lane when all that is in flight has ended.
func (l *lane) shutdown() {
	l.server.Shutdown()
	l.replica.hook.remove(l.gate)
	l.gate.putBack() // nobody dequeues any more
	for _, p := range l.gate.clear() {
		l.replica.limiter.release(l.gate.ctx, p)
	}
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

// AtHand returns permits that can be had without waiting.
func (p *lanePace) AtHand(ctx context.Context, n int) []*ratelimit.Permit {
	return p.limiter.AtHand(ctx, p.app, p.typ, n)
}

// Release gives back a permit that no task had use for.
func (p *lanePace) Release(ctx context.Context, permit *ratelimit.Permit) {
	p.limiter.release(ctx, permit)
}

// Rest gives back what was leased for a lane that goes to sleep or closes.
func (p *lanePace) Rest(ctx context.Context) { p.limiter.rest(ctx, p.app, p.typ) }

// whileOpen is a context for what runs beside the deliveries: it ends with the lane, too.
func (l *lane) whileOpen(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(l.gate.ctx, cancel)
	return ctx, func() { stop(); cancel() }
}
