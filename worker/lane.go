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

	"github.com/wxcourier/wxcourier/internal/gate"
	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/tasks"
)

// A lane is one (app, type) on this replica, with its own queues, concurrency and permits.
// It shares an asynq server with other lanes. It is open from openLane to stop.
type lane struct {
	app, typ      string
	queues        []string // in strict priority
	gate          *gate.Gate
	pace          *lanePace
	server        *laneServer
	replica       *Replica
	active        atomic.Int64      // handlers that are running
	running       sync.Map          // asynq's task id → *startedTask
	receiverWaits receiverWaitLimit // slots of tasks that wait for their receivers

	idleSince time.Time // owned by fleet.run: the first poll without a running handler or other work; else zero
}

// openLane opens a lane. It does no I/O by itself.
func (r *Replica) openLane(app, typ string) (*lane, error) {
	l := &lane{app: app, typ: typ, replica: r, queues: tasks.QueueNames(app, typ), pace: &lanePace{limiter: r.limiter, app: app, typ: typ, waited: r.metrics.permitWaitObserver(typ)}}
	slots := r.limiter.Concurrency(app, typ)
	l.receiverWaits.slots = slots
	l.gate = gate.New(l.queues, l.pace,
		func() int { return slots - int(l.active.Load()) })
	if err := r.servers.join(l); err != nil {
		return nil, fmt.Errorf("open the lane of %s %s: %w", app, typ, err)
	}
	r.learner.follow(l)
	return l, nil
}

// handle runs one task. A panic here is a bug of this package or of a hook; the fence keeps
// the next run from sending the task twice.
func (l *lane) handle(ctx context.Context, t *asynq.Task) (err error) {
	id, _ := asynq.GetTaskID(ctx)
	l.active.Add(1)
	begun := l.gate.HandlerStarted()
	l.running.Store(id, begun)
	defer func() {
		l.running.Delete(id)
		l.active.Add(-1)
		l.gate.HandlerEnded(begun)
		if v := recover(); v != nil {
			l.replica.log.Error("panic in a delivery", slog.String("app", l.app), slog.String("type", l.typ),
				slog.String("panic", fmt.Sprintf("%T", v)), slog.String("stack", string(debug.Stack())))
			err = &handedBack{delay: retries[0], counts: true, why: "panic in a delivery"}
		}
	}()
	return l.replica.deliver(ctx, l, t)
}

// expire ends a task whose deadline in asynq passed before it could run. That happens only
// where the producer set asynq's Deadline or Timeout itself.
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
	j.opened, err = l.replica.ledger.Open(ctx, j.ref(), ledger.OpenRequest{Runner: j.runner, Queue: j.queue, Marked: j.marked, Enqueued: j.enqueuedAt, Expired: true})
	if err == nil {
		_ = l.replica.unsent(ctx, j) // asynq retries the task, which is then settled
	}
}

// stop ends the lane's dequeues at once, without waiting for handlers that run.
func (l *lane) stop() { l.gate.Drain(l.replica.cfg.ShutdownTimeout) }

// shutdown removes a stopped lane from its server, and returns the permits that no handler
// took.
func (l *lane) shutdown() {
	l.replica.servers.leave(l)
	l.gate.ReleaseAssigned()
}

// lanePace binds the limiter to one lane.
type lanePace struct {
	limiter  limiter
	app, typ string
	waited   func(time.Duration)
}

func (p *lanePace) Acquire(ctx context.Context, wake <-chan struct{}) (*ratelimit.Permit, error) {
	start := time.Now()
	permit, err := p.limiter.AcquireEarly(ctx, p.app, p.typ, wake)
	if err == nil {
		p.waited(time.Since(start))
	}
	return permit, err
}

// TryAcquire returns up to n permits without waiting.
func (p *lanePace) TryAcquire(ctx context.Context, n int) []*ratelimit.Permit {
	return p.limiter.TryAcquire(ctx, p.app, p.typ, n)
}

// Release returns an unused permit.
func (p *lanePace) Release(ctx context.Context, permit *ratelimit.Permit) {
	p.limiter.release(ctx, permit)
}

// ReturnUnused returns the permits that were leased for the lane, which sleeps or closes.
func (p *lanePace) ReturnUnused(ctx context.Context) { p.limiter.returnUnused(ctx, p.app, p.typ) }

// whileOpen returns a context that ends with ctx or when the lane closes.
func (l *lane) whileOpen(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(l.gate.Context(), cancel)
	return ctx, func() { stop(); cancel() }
}
