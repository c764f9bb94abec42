// Package taskstate reads what Redis holds of one task and decides what the task waits for. It is
// the basis of tasks.Client.Result and of inspect.Reader.Task, which adds what only a
// configuration tells.
package taskstate

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/asynqwire"
	"github.com/wxcourier/wxcourier/internal/hold"
	"github.com/wxcourier/wxcourier/internal/ledger"
)

// The reasons that replicas give asynq when they hand a task back without an attempt. asynq keeps
// them as the task's last error, which costs no command of ours.
const (
	OutsideHours   = "outside of the app's hours"
	ReceiverBusy   = "worker: the receiver is busy with other tasks"
	AwaitsCallback = "WeChat's callback has not come"
)

// Task is what Redis holds of one task.
type Task struct {
	App, ID string
	Lane    string // the type, or what stands for it in the names of queues and holds
	// Record is zero for a task of a plain asynq client that no replica has run yet.
	Record ledger.Record
	// Copy is asynq's copy; nil: asynq does not have the task.
	Copy *asynqwire.Copy
	// Holds are in force and concern the task: on its app, its type or its template.
	Holds []hold.Hold
	// Canceled: the task ends as canceled when a replica reaches it.
	Canceled bool
	// Envelope is the part of the payload that is of interest here.
	Envelope Envelope
}

// Envelope is a part of a task's envelope.
type Envelope struct {
	Batch       string    `json:"batch"`
	NotAfter    time.Time `json:"not_after"`
	IgnoreHours bool      `json:"ignore_hours"`
	Body        struct {
		TemplateID string `json:"template_id"`
	} `json:"body"`
}

// Ended reports whether the task has an outcome.
func (t Task) Ended() bool { return t.Record.Outcome != "" }

// Reader reads tasks. Create one with NewReader.
type Reader struct {
	rdb    redis.UniversalClient
	ledger *ledger.Ledger
	holds  *hold.Store
}

// NewReader returns a Reader on rdb. It does no I/O.
func NewReader(rdb redis.UniversalClient) *Reader {
	return &Reader{rdb: rdb, ledger: ledger.New(rdb, ledger.Policy{}), holds: hold.NewStore(rdb)}
}

// Names are the names of a task that its record does not contain.
type Names struct {
	App, ID string
	// AsynqID is the task's id in asynq.
	AsynqID string
	// LaneOf returns the lane of a queue.
	LaneOf func(queue string) string
	// Queues are searched for a task without record and mark, as plain asynq clients enqueue it;
	// nil: such a task is not found.
	Queues []string
}

// Read reads a task: in one round trip if it has ended, else in at most five. It returns
// ledger.ErrNotFound if there is no such task.
func (r *Reader) Read(ctx context.Context, n Names) (Task, error) {
	t := Task{App: n.App, ID: n.ID}
	for again := false; ; again = true {
		var err error
		t.Record, err = r.ledger.Record(ctx, n.App, n.ID)
		if errors.Is(err, ledger.ErrNotFound) && len(n.Queues) > 0 {
			t.Record.Queue, err = asynqwire.FindQueue(ctx, r.rdb, n.Queues, n.AsynqID)
			if err == nil && t.Record.Queue == "" {
				err = ledger.ErrNotFound
			}
		}
		if err != nil {
			return Task{}, err
		}
		t.Lane = n.LaneOf(t.Record.Queue)
		if t.Ended() {
			return t, nil
		}
		if t.Copy, err = asynqwire.ReadCopy(ctx, r.rdb, t.Record.Queue, n.AsynqID); err != nil {
			return Task{}, err
		}
		if t.Copy != nil || again {
			return t, r.complete(ctx, &t)
		}
		// asynq has deleted its copy: the task may have ended since the record was read.
	}
}

// complete reads what else concerns a task without an outcome.
func (r *Reader) complete(ctx context.Context, t *Task) error {
	scopes := []string{hold.WholeApp, t.Lane}
	if t.Copy != nil && json.Unmarshal(t.Copy.Payload, &t.Envelope) == nil && t.Envelope.Body.TemplateID != "" {
		scopes = append(scopes, hold.TemplateScope(t.Envelope.Body.TemplateID))
	}
	var err error
	if t.Holds, err = r.holds.InForce(ctx, t.App, scopes...); err != nil {
		return err
	}
	t.Canceled = t.Record.Canceled
	if batch := t.Envelope.Batch; batch != "" && !t.Canceled {
		t.Canceled, err = r.ledger.InCanceledBatch(ctx, t.App, batch, t.Record)
	}
	return err
}
