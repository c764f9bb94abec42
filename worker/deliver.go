package worker

import (
	"context"
	"log/slog"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/trace"

	"github.com/wxcourier/wxcourier/internal/background"
	"github.com/wxcourier/wxcourier/internal/consent"
	"github.com/wxcourier/wxcourier/internal/dispatch"
	"github.com/wxcourier/wxcourier/internal/gate"
	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/internal/series"
	"github.com/wxcourier/wxcourier/internal/templates"
	"github.com/wxcourier/wxcourier/tasks"
)

// deliverer takes the tasks of all lanes through the pipeline.
type deliverer struct {
	delivererDeps
	receivers   *receiverLocks
	loggedHours loggedHours
	rejected    rejectedLog
	runs        atomic.Int64 // counts the runs, for newRunner
}

type delivererDeps struct {
	replica    string
	apps       *appTable
	attempts   int // that may fail
	results    ResultsConfig
	rdb        redis.UniversalClient
	ledger     *ledger.Ledger
	dispatcher *dispatch.Dispatcher
	media      *mediaFetcher
	templates  *templates.Cache
	hooks      Hooks
	tracer     trace.Tracer // nil: no spans
	metrics    *metrics
	series     *series.Recorder // nil: outcomes are not counted over time
	consents   *consent.Checker
	background *background.Group
	// callbackTimeout is how long a task waits for the push that ends it.
	callbackTimeout time.Duration
	log             *slog.Logger
	now             func() time.Time // the clock of hours and expiry
}

func newDeliverer(deps delivererDeps) *deliverer {
	d := &deliverer{delivererDeps: deps, rejected: rejectedLog{log: deps.log}}
	d.receivers = newReceiverLocks(d.recallDeferred)
	return d
}

// close stops the recalls of deferred tasks. All deliveries must have ended.
func (d *deliverer) close() {
	d.receivers.close()
	d.media.client.CloseIdleConnections()
}

// newRunner returns a name for a run that no other run of any replica has.
func (d *deliverer) newRunner() string {
	return d.replica + "-" + strconv.FormatInt(d.runs.Add(1), 10)
}

// deliver takes one task through the pipeline:
//
//	decode → prepare (app, its hours → probe → receiver's lock → request (guards, image, token) →
//	permit) → open (settled? canceled? expired? fence) → send (the receiver's consent →
//	OnSending → connection → permit's instant → call) → judge → settle
//
// It holds no policy: open decides whether the task may be sent, package dispatch what follows
// from the answer. asynq deletes the task when deliver returns nil, retries it after a
// *handedBack, and archives it after asynq.SkipRetry.
func (d *deliverer) deliver(ctx context.Context, l *lane, started *gate.StartedTask, t *asynq.Task) error {
	// All waits end when the lane closes. The steps after an attempt outlive asynq's context:
	// a "cancel" in its web UI, or a lost lease, must not make a known answer unknown.
	taskCtx, open := ctx, l.gate.Context()
	ctx = context.WithoutCancel(ctx)

	permit := l.gate.TakePermit()
	j, err := newJob(taskCtx, l, d.newRunner(), t)
	if err != nil {
		l.pace.Release(ctx, permit)
		return d.discard(ctx, err)
	}
	j.started, j.resultWriter, j.trace = started, t.ResultWriter(), d.newTrace(t.Headers())
	j.call.Assign(permit)
	defer d.release(ctx, j)
	if j.Plaintext {
		return d.makePlaintext(ctx, j)
	}
	if j.spec.Callback {
		if waits, err := d.checkCallback(ctx, j); waits {
			return err
		}
	}

	err = d.prepare(open, j)
	if !isHandedBack(err) && (taskCtx.Err() != nil || open.Err() != nil) {
		err = retryLater(redisRetryDelay, laneClosing)
	}
	if isHandedBack(err) {
		if !j.capped() {
			return err // the record is unchanged: the task only waits
		}
		err = &dispatch.NotSentError{Reason: err.Error()} // asynq would archive the task: it ends with an outcome
	}
	if d.open(ctx, j) != nil {
		return retryLater(redisRetryDelay, "Redis did not answer")
	}
	if j.opened.Admission != ledger.Proceed {
		return d.settleUnsent(ctx, j)
	}
	if err == nil {
		err = d.send(ctx, j)
	}
	j.err = err
	d.settleConsent(ctx, j)
	v := d.judge(ctx, j)
	if j.spec.Callback && v.Outcome == tasks.OutcomeAccepted {
		return d.awaitCallback(ctx, j, v)
	}
	return d.settle(ctx, j, v)
}

// release ends what a run holds: the probe, the receiver's lock, and a permit that it has not
// used.
func (d *deliverer) release(ctx context.Context, j *job) {
	if j.unlock != nil {
		j.unlock()
	}
	if j.endProbe != nil {
		j.endProbe()
	}
	d.dispatcher.Release(ctx, &j.call)
}

// open claims the task in the ledger, or finds out why it may not be sent. It repeats the
// call until Redis answers or the lane closes: a call whose reply was lost may have raised
// the fence, and only the same runner knows that no request was written. A capped task is
// opened even if the lane closes, and waits for another runner that may still have it.
func (d *deliverer) open(ctx context.Context, j *job) error {
	until := j.lane.gate.Context()
	if j.capped() {
		until = ctx
	}
	for {
		err := d.retryRedis(until, j, "the task could not be opened yet", func() (err error) {
			j.opened, err = d.ledger.Open(until, j.ref(), ledger.OpenRequest{
				Runner: j.runner, Queue: j.queue, Marked: j.marked, Enqueued: j.enqueuedAt,
				Fenced: j.spec.Repeat != tasks.Always, Dedupe: j.spec.Repeat.Window(),
				Expired: j.expired(d.now()), Receiver: j.receiver, ProcessAt: j.ProcessAt,
			})
			return err
		})
		if err != nil || j.opened.Admission != ledger.Busy || !j.capped() || !background.Sleep(j.lane.gate.Context(), j.opened.Wait) {
			return err
		}
	}
}

// send calls WeChat.
func (d *deliverer) send(ctx context.Context, j *job) (err error) {
	open := j.lane.gate.Context()
	if err := d.checkConsent(ctx, j); err != nil {
		return err
	}
	if err := d.notifySending(open, j); err != nil {
		return err
	}
	j.lane.gate.DonePreparing(j.started)
	j.call.BeforeWrite = func() error {
		if wait, closed := d.hoursWait(j); closed { // the hours closed since prepare
			return &dispatch.NotSentError{Reason: outsideHours, Delay: wait}
		}
		return nil
	}
	j.answer, err = d.dispatcher.Send(j.trace.start(ctx, j), open, &j.call, j.request)
	return err
}

// judge returns the verdict on the attempt of a job.
func (d *deliverer) judge(ctx context.Context, j *job) dispatch.Verdict {
	return d.dispatcher.Judge(ctx, &j.call, dispatch.Attempt{
		Err: j.err, Repeat: j.spec.Repeat, Doubt: j.opened.Doubt, Failed: j.failed, Budget: d.attempts,
	})
}

// expire ends a task whose deadline in asynq passed before it could run.
func (d *deliverer) expire(ctx context.Context, l *lane, t *asynq.Task) {
	j, err := newJob(ctx, l, d.newRunner(), t)
	if err != nil {
		return
	}
	j.opened, err = d.ledger.Open(ctx, j.ref(), ledger.OpenRequest{Runner: j.runner, Queue: j.queue, Marked: j.marked, Enqueued: j.enqueuedAt, Expired: true})
	if err == nil {
		_ = d.settleUnsent(ctx, j) // asynq retries the task, which is then settled
	}
}

// retryRedis repeats a step until it succeeds or ctx ends. It logs the first failure, and
// then one a minute.
func (d *deliverer) retryRedis(ctx context.Context, j *job, trouble string, step func() error) error {
	for n := 0; ; n++ {
		err := step()
		if err == nil {
			return nil
		}
		if n%int(time.Minute/redisRetryDelay) == 0 {
			d.log.Warn(trouble, j.attrs(slog.Any("err", err))...)
		}
		select {
		case <-time.After(redisRetryDelay):
		case <-ctx.Done():
			return err
		}
	}
}
