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

	"github.com/wxcourier/wxcourier/internal/dispatch"
	"github.com/wxcourier/wxcourier/internal/gate"
	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/wechat"
)

// A lane is one (app, type) on this replica, with its own queues, concurrency and permits.
// It shares an asynq server with other lanes. It is open from openLane to stop.
type lane struct {
	app, typ      string
	queues        []string // in strict priority
	gate          *gate.Gate
	pace          *dispatch.Pace
	server        *laneServer
	servers       *laneServers
	deliverer     *deliverer
	active        atomic.Int64      // handlers that are running
	slots         atomic.Int64      // the concurrency; setSlots changes it
	running       sync.Map          // set of asynq's task ids
	receiverWaits receiverWaitLimit // slots of tasks that wait for their receivers

	idleSince time.Time // owned by fleet.run: the first poll without a running handler or other work; else zero
}

// openLane opens a lane. It does no I/O by itself.
func (f *fleet) openLane(key laneKey) (*lane, error) {
	spec, _ := tasks.Lookup(tasks.TypeOfLane(key.typ))
	l := &lane{
		app: key.app, typ: key.typ, servers: f.servers, deliverer: f.deliverer,
		queues: tasks.QueueNames(key.app, key.typ),
		pace:   f.dispatcher.Pace(key.app, key.typ, wechat.Endpoint(spec.Path)),
	}
	l.setSlots(f.limiter.Concurrency(key.app, key.typ))
	l.gate = gate.New(l.queues, l.pace, func() int { return int(l.slots.Load() - l.active.Load()) })
	if err := f.servers.join(l); err != nil {
		return nil, fmt.Errorf("open the lane of %s %s: %w", key.app, key.typ, err)
	}
	if key.typ != tasks.PlaintextLane { // which makes no call
		f.dispatcher.FollowLimits(l.gate.Context(), key.app, key.typ)
	}
	return l, nil
}

// setSlots sets the concurrency of the lane. Handlers beyond a lower one finish.
func (l *lane) setSlots(slots int) {
	l.slots.Store(int64(slots))
	l.receiverWaits.slots.Store(int64(slots))
}

// handle runs one task. A panic here is a bug of this package or of a hook; the fence keeps
// the next run from sending the task twice.
func (l *lane) handle(ctx context.Context, t *asynq.Task) (err error) {
	id, _ := asynq.GetTaskID(ctx)
	l.active.Add(1)
	started := l.gate.HandlerStarted()
	l.running.Store(id, struct{}{})
	defer func() {
		l.running.Delete(id)
		l.active.Add(-1)
		l.gate.HandlerEnded(started)
		if v := recover(); v != nil {
			l.deliverer.log.Error("panic in a delivery", slog.String("app", l.app), slog.String("type", l.typ),
				slog.String("panic", fmt.Sprintf("%T", v)), slog.String("stack", string(debug.Stack())))
			err = &handedBack{delay: dispatch.RetryDelay(0), counts: true, why: "panic in a delivery"}
		}
	}()
	return l.deliverer.deliver(ctx, l, started, t)
}

// expire ends a task whose deadline in asynq passed before it could run. That happens only
// where the producer set asynq's Deadline or Timeout itself.
func (l *lane) expire(ctx context.Context, t *asynq.Task, err error) {
	id, _ := asynq.GetTaskID(ctx)
	if _, runs := l.running.Load(id); runs || !errors.Is(err, context.DeadlineExceeded) {
		return
	}
	l.deliverer.expire(context.WithoutCancel(ctx), l, t)
}

// stop ends the lane's dequeues at once, without waiting for handlers that run.
func (l *lane) stop() { l.gate.Drain(l.servers.shutdownTimeout) }

// shutdown removes a stopped lane from its server, and returns the permits that no handler
// took.
func (l *lane) shutdown() {
	l.servers.leave(l)
	l.gate.ReleaseAssigned()
}
