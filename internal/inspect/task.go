package inspect

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/wxcourier/wxcourier/internal/asynqwire"
	"github.com/wxcourier/wxcourier/internal/hold"
	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/internal/taskstate"
	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/tasks"
)

// Place is where a task is.
type Place string

// The places: the states of a task, and what concerns a task apart from its state.
const (
	PlaceScheduled Place = "scheduled" // it waits for its process_at
	PlaceWaiting   Place = "waiting"   // it is due
	PlaceSending   Place = "sending"   // a replica has it
	PlaceRetrying  Place = "retrying"  // it comes back to its queue at a time
	PlaceDone      Place = "done"      // it has an outcome
	PlaceCanceled  Place = "canceled"  // it was canceled, and ends as canceled when a replica reaches it
	PlaceArchived  Place = "archived"  // it was archived in the asynq web UI, without an outcome
	PlaceDeleted   Place = "deleted"   // asynq does not have it: it was deleted in the asynq web UI
)

// Task is one task: where it is, what it waits for, and what has happened to it.
type Task struct {
	tasks.Result
	Place    Place          `json:"place"`
	Queue    string         `json:"queue"`
	Priority tasks.Priority `json:"priority,omitempty"`
	// Position is the task's place in its queue, while it is due: the tasks before it, including
	// the urgent ones before a bulk task. Replicas hold a few more.
	Position *Position `json:"position,omitempty"`
	// Waits are all things that the task waits for; WaitsFor is the one that ends last.
	Waits []taskstate.Wait `json:"waits,omitempty"`
	Holds []hold.Hold      `json:"holds,omitempty"` // that concern the task, with one on its template
	// Limits are the windows of the task's type that are used up.
	Limits []ratelimit.SpentWindow `json:"limits,omitempty"`
	// NotAfter is the end of the time in which the task may be sent.
	NotAfter time.Time `json:"not_after,omitzero"`
	Failed   int       `json:"failed,omitempty"` // attempts that failed, in this generation
	// HandedBack is why a replica gave the task back the last time, in asynq's words.
	HandedBack string       `json:"handed_back,omitempty"`
	Failures   []Failure    `json:"failures,omitempty"` // the last attempts that did not end the task, the oldest first, at most ten
	History    []PastResult `json:"history,omitempty"`
}

// Position is a place in a queue.
type Position struct {
	Before int64 `json:"before"`
	// AtLeast: there are more tasks before it than were compared.
	AtLeast bool `json:"at_least,omitempty"`
}

// PastResult is an outcome that a redrive has undone.
type PastResult struct {
	Generation int          `json:"generation"`
	Result     tasks.Result `json:"result"`
}

// Hours tell when an app's tasks may be sent.
type Hours interface {
	NextOpen(typ string, now time.Time) (at time.Time, open bool)
}

// searchDepth is how many tasks of a queue are compared to find a position, in some 3 ms.
const searchDepth = 100_000

// Task reads one task. hours are its app's; nil are none. It takes up to ten round trips. The
// error is tasks.ErrNotFound for an unknown id.
func (r *Reader) Task(ctx context.Context, app, id string, hours Hours) (Task, error) {
	state, err := taskstate.NewReader(r.rdb).Read(ctx, taskstate.Names{
		App: app, ID: id, AsynqID: asynqID(app, id), LaneOf: laneOf, Queues: queuesOf(app),
	})
	if errors.Is(err, ledger.ErrNotFound) {
		return Task{}, tasks.ErrNotFound
	}
	if err != nil {
		return Task{}, err
	}
	_, _, priority, _ := tasks.ParseQueue(state.Record.Queue)
	t := Task{Queue: state.Record.Queue, Priority: priority, Holds: state.Holds, NotAfter: state.Envelope.NotAfter, Waits: state.Waits(time.Now())}
	if state.Copy != nil {
		t.Failed, t.HandedBack = state.Copy.Retried, state.Copy.LastErr
	}
	if !state.Ended() {
		if err := r.completeWaits(ctx, &t, state, hours); err != nil {
			return Task{}, err
		}
	}
	if t.Result, err = tasks.ResultOf(state, taskstate.Last(t.Waits)); err != nil {
		return Task{}, err
	}
	t.Place = placeOf(state, t.Result)
	return t, r.addHistory(ctx, &t)
}

func asynqID(app, id string) string { return tasks.Envelope{App: app, ID: id}.TaskID() }

func laneOf(queue string) string {
	_, lane, _, _ := tasks.ParseLane(queue)
	return lane
}

// queuesOf returns the queues of all lanes of an app.
func queuesOf(app string) []string {
	var queues []string
	for _, lane := range append(tasks.Types(), tasks.PlaintextLane) {
		queues = append(queues, tasks.QueueNames(app, lane)...)
	}
	return queues
}

// completeWaits adds what only the configuration tells: limits that are used up, and the hours;
// and the task's position.
func (r *Reader) completeWaits(ctx context.Context, t *Task, state taskstate.Task, hours Hours) (err error) {
	if !mayWaitForMore(t.Waits) {
		return nil
	}
	if t.Limits, err = r.limiter.SpentWindows(ctx, state.App, state.Lane, t.Priority == tasks.Bulk); err != nil {
		return err
	}
	for _, w := range t.Limits {
		t.Waits = append(t.Waits, taskstate.Wait{
			For: taskstate.ForLimit, Reason: w.Name + " per " + string(w.Window), Until: w.Until, Blocked: w.Until.IsZero(),
		})
	}
	if last := taskstate.Last(t.Waits); hours != nil && !state.Envelope.IgnoreHours && state.Lane != tasks.PlaintextLane && !last.Blocked {
		from := time.Now()
		if last.Until.After(from) {
			from = last.Until
		}
		if at, open := hours.NextOpen(state.Lane, from); !open {
			t.Waits = append(t.Waits, taskstate.Wait{For: taskstate.ForHours, Until: at})
		}
	}
	if len(t.Waits) > 1 { // the turn comes after all other waits
		t.Waits = slices.DeleteFunc(t.Waits, func(w taskstate.Wait) bool { return w.For == taskstate.ForTurn })
	}
	if state.Copy != nil && state.Copy.State == asynqwire.Pending {
		t.Position, err = r.position(ctx, state)
	}
	return err
}

// mayWaitForMore reports whether limits and hours concern a task that has these waits.
func mayWaitForMore(waits []taskstate.Wait) bool {
	return !slices.ContainsFunc(waits, func(w taskstate.Wait) bool {
		return w.For == taskstate.ForAnswer || w.For == taskstate.ForSweep || w.For == taskstate.ForArchive || w.For == taskstate.ForCallback
	})
}

// position counts the tasks before a pending one.
func (r *Reader) position(ctx context.Context, state taskstate.Task) (*Position, error) {
	found, ok, err := asynqwire.FindPosition(ctx, r.rdb, state.Record.Queue, asynqID(state.App, state.ID), searchDepth)
	if err != nil || !ok {
		return nil, err
	}
	at := Position{found.Before, found.AtLeast}
	if urgent := tasks.QueueName(state.App, state.Lane, tasks.Urgent); urgent != state.Record.Queue {
		depths, err := ReadDepths(ctx, r.rdb, []string{urgent}, Pending)
		if err != nil {
			return nil, err
		}
		at.Before += depths[0].Pending
	}
	return &at, nil
}

func placeOf(state taskstate.Task, r tasks.Result) Place {
	switch {
	case r.Outcome != "":
		return PlaceDone
	case r.WaitsFor == tasks.WaitsForSweep:
		return PlaceDeleted
	case r.WaitsFor == tasks.WaitsForArchive:
		return PlaceArchived
	case r.WaitsFor == tasks.WaitsForAnswer && !state.Canceled, r.WaitsFor == tasks.WaitsForCallback:
		return PlaceSending
	case state.Canceled:
		return PlaceCanceled
	case state.Copy != nil && state.Copy.State == asynqwire.Retry:
		return PlaceRetrying
	}
	return Place(r.State)
}

// addHistory adds the outcomes that redrives have undone, and the attempts that failed.
func (r *Reader) addHistory(ctx context.Context, t *Task) error {
	past, err := r.ledger.History(ctx, t.App, t.ID)
	if err != nil {
		return err
	}
	for _, p := range past.Outcomes {
		entry := PastResult{Generation: p.Generation}
		if err := json.Unmarshal(p.Result, &entry.Result); err != nil {
			return err
		}
		t.History = append(t.History, entry)
	}
	for _, f := range past.Failed {
		t.Failures = append(t.Failures, Failure{
			At: f.At, ErrCode: f.Code, Class: f.Class, ErrMsg: f.Msg, RID: f.RID, Wait: f.Wait, WaitSeconds: f.Wait.Seconds(),
		})
	}
	return nil
}
