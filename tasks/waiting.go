package tasks

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/wxcourier/wxcourier/internal/asynqwire"
	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/internal/taskstate"
)

// LastAnswer is the answer to an attempt that did not end its task.
type LastAnswer struct {
	// ErrCode, ErrMsg and RID are WeChat's answer. Without one ErrCode is 0 and ErrMsg the
	// error; Class tells the two apart. They contain no openid and no secret.
	ErrCode int    `json:"errcode"`
	ErrMsg  string `json:"errmsg"`
	RID     string `json:"rid"`
	// Class is the class of the answer, as in the metric wxcourier_calls_total.
	Class string    `json:"class,omitempty"`
	At    time.Time `json:"at,omitzero"`
}

// WaitReason is what a task without an outcome waits for.
type WaitReason string

// The reasons. A task that waits for several things at once shows the one that ends last.
const (
	// WaitsForProcessAt: the time that its producer set.
	WaitsForProcessAt WaitReason = taskstate.ForProcessAt
	// WaitsForTurn: the tasks before it in its queue, and a permit of its limits.
	WaitsForTurn WaitReason = taskstate.ForTurn
	// WaitsForPermit: a replica has it, and prepares its request or waits for its permit.
	WaitsForPermit WaitReason = taskstate.ForPermit
	// WaitsForAnswer: a replica sends it.
	WaitsForAnswer WaitReason = taskstate.ForAnswer
	// WaitsForRetry: the next attempt, after a temporary error. Result.Last has the error.
	WaitsForRetry WaitReason = taskstate.ForRetry
	// WaitsForReceiver: other messages to the same receiver, or WeChat's limit for one.
	WaitsForReceiver WaitReason = taskstate.ForReceiver
	// WaitsForCallback: WeChat has accepted the request, and its push ends the task; without one it
	// ends at Result.NextAt.
	WaitsForCallback WaitReason = taskstate.ForCallback
	// WaitsForHours: the app's hours.
	WaitsForHours WaitReason = taskstate.ForHours
	// WaitsForLimit: a limit of the app that is used up. Only `wxcourier task` shows it, since
	// it needs the configuration of the limits.
	WaitsForLimit WaitReason = taskstate.ForLimit
	// WaitsForHold: the end of a hold; Result.Reason is the hold's.
	WaitsForHold WaitReason = taskstate.ForHold
	// WaitsForPause: an operator paused its queue in the asynq web UI.
	WaitsForPause WaitReason = taskstate.ForPause
	// WaitsForArchive: an operator archived it in the asynq web UI before it had an outcome.
	WaitsForArchive WaitReason = taskstate.ForArchive
	// WaitsForSweep: asynq does not have it, because it was deleted in the asynq web UI or its
	// producer died while it enqueued it. A sweep of the workers ends it.
	WaitsForSweep WaitReason = taskstate.ForSweep
)

// WaitReasons returns all reasons.
func WaitReasons() []WaitReason {
	return []WaitReason{
		WaitsForProcessAt, WaitsForTurn, WaitsForPermit, WaitsForAnswer, WaitsForRetry, WaitsForReceiver,
		WaitsForCallback, WaitsForHours, WaitsForLimit, WaitsForHold, WaitsForPause, WaitsForArchive, WaitsForSweep,
	}
}

// blocked reports whether a wait for this reason that has no known end ends only by an operator,
// or by a sweep of the workers.
func (w WaitReason) blocked() bool {
	switch w {
	case WaitsForHold, WaitsForLimit, WaitsForPause, WaitsForArchive, WaitsForSweep:
		return true
	case WaitsForProcessAt, WaitsForTurn, WaitsForPermit, WaitsForAnswer, WaitsForRetry, WaitsForReceiver, WaitsForCallback, WaitsForHours:
	}
	return false
}

// Late reports whether a task without an outcome is known not to end before a deadline: what it
// waits for ends later, or has no end of its own. With the zero deadline it reports the latter.
func (r Result) Late(deadline time.Time) bool {
	switch {
	case r.Outcome != "":
		return false
	case r.NextAt.IsZero():
		return r.WaitsFor.blocked()
	}
	return !deadline.IsZero() && r.NextAt.After(deadline)
}

// Result returns a task's outcome. For a task that has none yet it returns the state, the answer
// to the last attempt ([Result].Last), what the task waits for (WaitsFor, Reason) and until when
// (NextAt). The error is [ErrNotFound] for an unknown id.
func (c *Client) Result(ctx context.Context, app, id string) (Result, error) {
	state, err := c.states.Read(ctx, stateNames(app, id))
	if errors.Is(err, ledger.ErrNotFound) {
		return Result{}, ErrNotFound
	}
	if err != nil {
		return Result{}, err
	}
	return ResultOf(state, taskstate.Last(state.Waits(time.Now())))
}

// stateNames returns the names of a task for a taskstate.Reader.
func stateNames(app, id string) taskstate.Names {
	return taskstate.Names{App: app, ID: id, AsynqID: Envelope{App: app, ID: id}.TaskID(), LaneOf: laneOfQueue}
}

func laneOfQueue(queue string) string {
	_, lane, _, _ := ParseLane(queue)
	return lane
}

func typeOfQueue(queue string) string {
	_, typ, _, _ := ParseQueue(queue)
	return typ
}

// ResultOf returns the record of a task as its state shows it, with what it waits for. It is for
// this module: other programs call [Client.Result].
func ResultOf(t taskstate.Task, wait taskstate.Wait) (Result, error) {
	if t.Ended() {
		return decodeRecord(t.Record)
	}
	r := resultOfRecord(t.App, t.ID, t.Record)
	r.Batch, r.WaitsFor, r.NextAt, r.Reason = t.Envelope.Batch, WaitReason(wait.For), wait.Until, wait.Reason
	if t.Canceled && r.WaitsFor != WaitsForCallback { // which cannot be canceled any more
		r.Reason = "canceled"
	}
	if t.Copy == nil {
		return r, nil
	}
	switch t.Copy.State { // the record keeps the state of the last step of ours; asynq moves tasks, too
	case asynqwire.Scheduled:
		r.State = StateScheduled
	case asynqwire.Pending:
		r.State = StateWaiting
	case asynqwire.Active:
		if r.State != StateSending {
			r.State = StateWaiting
		}
	}
	return r, nil
}

// resultOfRecord returns what a record without an outcome shows.
func resultOfRecord(app, id string, record ledger.Record) Result {
	r := Result{
		ID: id, App: app, Type: typeOfQueue(record.Queue), State: cmp.Or(State(record.State), StateWaiting),
		Attempts: record.Attempts, Generation: record.Generation, EnqueuedAt: record.Enqueued,
	}
	if last := record.Last; !last.At.IsZero() {
		r.Last = &LastAnswer{ErrCode: last.Code, ErrMsg: last.Msg, RID: last.RID, Class: last.Class, At: last.At}
	}
	return r
}

// Recorded is [Client.Result] without what the task waits for, in one round trip: for callers that
// look up many tasks only for their outcomes.
func (c *Client) Recorded(ctx context.Context, app, id string) (Result, error) {
	record, err := c.ledger.Record(ctx, app, id)
	switch {
	case errors.Is(err, ledger.ErrNotFound):
		return Result{}, ErrNotFound
	case err != nil:
		return Result{}, err
	case record.Outcome != "":
		return decodeRecord(record)
	}
	return resultOfRecord(app, id, record), nil
}

// ErrNotEnded is the error of a [Client.Wait] that an option ended. The Result tells what the task
// waits for.
var ErrNotEnded = errors.New("tasks: the task has not ended")

// A WaitOption ends a [Client.Wait] early.
type WaitOption func(*waitOptions)

type waitOptions struct {
	ifLate bool
	when   []func(Result) bool
}

// StopIfLate ends a Wait, with [ErrNotEnded], once the task is known not to end before the
// context's deadline, see [Result.Late]: a server that waits 5 s for a link need not wait those
// 5 s while the quota is used up until midnight.
func StopIfLate() WaitOption { return func(o *waitOptions) { o.ifLate = true } }

// StopWhen ends a Wait, with [ErrNotEnded], once stop returns true for the task, as
// [Client.Result] returns it.
func StopWhen(stop func(Result) bool) WaitOption {
	return func(o *waitOptions) { o.when = append(o.when, stop) }
}

// stops reports whether an option ends the wait.
func (o *waitOptions) stops(ctx context.Context, r Result) bool {
	deadline, _ := ctx.Deadline()
	return o.ifLate && r.Late(deadline) || slices.ContainsFunc(o.when, func(stop func(Result) bool) bool { return stop(r) })
}

// resultEvery is the interval at which Wait calls Result, which takes up to five round trips; in
// between it reads the record, in one.
const resultEvery = 500 * time.Millisecond

// Wait polls for a task's outcome until it is recorded, ctx ends, or an option ends the wait. Use
// it for tasks whose producer needs the result, such as links. When ctx or an option ends it, the
// Result is that of [Client.Result], at most about a second old; if ctx ends within some
// milliseconds, it may be without Last, WaitsFor and NextAt.
func (c *Client) Wait(ctx context.Context, app, id string, options ...WaitOption) (Result, error) {
	var o waitOptions
	for _, option := range options {
		option(&o)
	}
	var (
		r    Result
		full time.Time // when r was read by Result
	)
	for pause, polls := 10*time.Millisecond, 0; ; pause, polls = min(2*pause, time.Second), polls+1 {
		recorded, err := c.Recorded(ctx, app, id)
		if err == nil && recorded.Outcome == "" && (polls > 0 || len(options) > 0) && time.Since(full) >= resultEvery {
			recorded, err = c.Result(ctx, app, id)
			full = time.Now()
			if err == nil {
				r = recorded
			}
		}
		switch {
		case err != nil && ctx.Err() != nil && r.ID != "":
			return r, ctx.Err()
		case err != nil || recorded.Outcome != "":
			return recorded, err
		case full.IsZero():
			r = recorded
		case o.stops(ctx, r):
			return r, ErrNotEnded
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return r, ctx.Err()
		}
	}
}
