package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"time"

	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/tasks"
)

const (
	turnBatches = 100 // after which other apps get the endpoint's slot
	pageSize    = 200 // results that are read at once
	// maxRefused is how many results in a row become dead letters at once, with none accepted between
	// them. Each further one is tried refusedTries times more, by the schedule: with a wrong secret,
	// say, an endpoint may refuse everything, and that must not turn all results into dead letters.
	maxRefused   = 10
	refusedTries = 3
)

// note is what a reader remembers between calls.
type note struct {
	Class    Class     `json:"class,omitempty"`    // of the last call that failed
	Status   int       `json:"status,omitempty"`   // its HTTP status
	Failures int       `json:"failures,omitempty"` // in a row
	Since    time.Time `json:"since,omitzero"`     // of the first of them
	Suspects int       `json:"suspects,omitempty"` // next results, one of which at least was refused
	Refused  int       `json:"refused,omitempty"`  // dead letters since a result was accepted
}

func (n note) encode() []byte {
	if n == (note{}) {
		return nil
	}
	text, _ := json.Marshal(n) // cannot fail
	return text
}

func parseNote(text []byte) note {
	var n note
	_ = json.Unmarshal(text, &n) // empty, or of another version
	return n
}

// size returns how many results the next call may have.
func (n note) size() int {
	switch {
	case n.Refused >= maxRefused:
		return 1
	case n.Suspects > 0:
		return max(1, n.Suspects/2)
	}
	return maxResults
}

// turn is one use of a reader.
type turn struct {
	*Sender
	target *target
	app    string
	reader *ledger.Reader
	cursor string
	note   note
	ahead  []ledger.Entry // read, after cursor
}

// turn delivers the results of an app to an endpoint until there are none, or a call fails. It
// returns how long to wait before the next turn.
func (s *Sender) turn(ctx context.Context, t *target, app string) (wait time.Duration, err error) {
	u := &turn{Sender: s, target: t, app: app, reader: ledger.NewReader(s.deps.Redis, ledger.ReaderConfig{
		App: app, Name: t.Name, Owner: s.owner, Lease: s.tuning.lease,
	})}
	state, wait, err := u.reader.Acquire(ctx)
	if errors.Is(err, ledger.ErrNoReader) {
		return s.tuning.poll, nil
	}
	if err != nil || wait > 0 {
		return wait, err
	}
	calls, cancel := lasting(ctx, s.tuning.finish)
	defer cancel()
	u.cursor, u.note = state.Cursor, parseNote(state.Note)
	kept := false
	for n := 0; n < turnBatches && ctx.Err() == nil && s.uses(t); n++ {
		b, err := u.next(ctx, state.Batch)
		if err != nil || b == nil {
			return 0, errors.Join(err, u.release(ctx))
		}
		state.Batch = nil
		if kept, wait, err = u.deliver(calls, b); err != nil || !kept {
			return wait, err
		}
	}
	return 0, u.release(ctx)
}

// lasting returns a context that ends some time after its parent.
func lasting(parent context.Context, by time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(parent))
	stop := context.AfterFunc(parent, func() { time.AfterFunc(by, cancel) })
	return ctx, func() { stop(); cancel() }
}

// recording returns a context for what must be recorded after a call, also when ctx has ended.
func recording(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
}

func (u *turn) release(ctx context.Context) error {
	ctx, cancel := recording(ctx)
	defer cancel()
	if err := u.reader.Release(ctx); err != nil && !errors.Is(err, ledger.ErrLeaseLost) {
		return err
	}
	return nil
}

// next returns the batch to send, which it has stored: the stored one, if its results are still
// there, else a new one. It returns nil if there is none.
func (u *turn) next(ctx context.Context, stored []byte) (*batch, error) {
	var b *batch
	var err error
	if len(stored) > 0 {
		if b, err = u.restore(ctx, stored); err != nil {
			return nil, err
		}
	}
	if b != nil {
		return b, u.reader.Store(ctx, nil)
	}
	if b, err = u.collect(ctx); b == nil || err != nil {
		return nil, err
	}
	text, err := json.Marshal(b)
	if err != nil {
		return nil, err
	}
	return b, u.reader.Store(ctx, text)
}

// restore returns a stored batch, or nil if some of its results were removed.
func (u *turn) restore(ctx context.Context, stored []byte) (*batch, error) {
	b := &batch{}
	err := json.Unmarshal(stored, b)
	if err != nil || b.End == "" {
		return nil, nil //nolint:nilerr // of another version: its results are sent in a new batch
	}
	if b.bodies, err = ledger.Entries(ctx, u.deps.Redis, u.app, b.Entries); err != nil {
		return nil, err
	}
	if len(b.bodies) != len(b.Entries) {
		return nil, nil
	}
	return b, nil
}

// collect makes a batch of the next results that the endpoint wants. It moves the reader over the
// others. It returns nil after the last result.
func (u *turn) collect(ctx context.Context) (*batch, error) {
	for {
		if len(u.ahead) == 0 {
			page, cut, err := ledger.Page(ctx, u.deps.Redis, u.app, u.cursor, pageSize)
			if err != nil {
				return nil, err
			}
			if cut.After(u.cursor) {
				return u.gap(page, cut), nil
			}
			if u.ahead = page; len(page) == 0 {
				return nil, nil
			}
		}
		b, bad := u.take()
		switch {
		case len(b.Entries) > 0:
			return b, nil
		case bad != nil:
			if err := u.bury(ctx, ledger.Step{Cursor: bad.ID, Passed: b.Passed + 1}, ledger.DeadLetter{Entry: bad.ID, Result: bad.Result, Reason: "no result record"}); err != nil {
				return nil, err
			}
		default:
			if err := u.advance(ctx, ledger.Step{Cursor: b.End, Passed: b.Passed, Note: u.note.encode()}); err != nil {
				return nil, err
			}
		}
	}
}

// take makes a batch of the results ahead. bad is the one after them if it is no result record.
func (u *turn) take() (b *batch, bad *ledger.Entry) {
	b = &batch{Type: typeResults, Message: newMessage()}
	bytes, size := 0, u.note.size()
	for i, e := range u.ahead {
		var r struct {
			Type       string                `json:"type"`
			Outcome    tasks.Outcome         `json:"outcome"`
			Receipt    tasks.DeliveryReceipt `json:"receipt"`
			FinishedAt time.Time             `json:"finished_at"`
		}
		if json.Unmarshal([]byte(e.Result), &r) != nil {
			return b, &u.ahead[i]
		}
		if u.target.wants(tasks.Result{Type: r.Type, Outcome: r.Outcome, Receipt: r.Receipt, FinishedAt: r.FinishedAt}) {
			bytes += len(e.Result) + 1
			if len(b.Entries) == size || len(b.Entries) > 0 && bytes > maxBytes {
				return b, nil
			}
			b.Entries, b.bodies = append(b.Entries, e.ID), append(b.bodies, e)
		}
		b.End, b.Passed = e.ID, i+1
	}
	return b, nil
}

// gap returns the event for results that were removed before they were sent.
func (u *turn) gap(page []ledger.Entry, cut ledger.Cut) *batch {
	b := &batch{Type: typeGap, Message: newMessage(), From: u.cursor, End: cut.ID, To: cut.ID}
	if len(page) > 0 {
		b.To = page[0].ID
		b.End = ledger.Before(page[0].ID)
	}
	u.metrics.gaps.WithLabelValues(u.target.Name).Inc()
	u.deps.Log.Error("results were removed before a webhook got them", slog.String("webhook", u.target.Name), slog.String("app", u.app),
		slog.Time("from", ledger.EntryTime(b.From)), slog.Time("to", ledger.EntryTime(b.To)))
	return b
}

// advance moves the reader and what is ahead of it.
func (u *turn) advance(ctx context.Context, step ledger.Step) error {
	ctx, cancel := recording(ctx)
	defer cancel()
	if err := u.reader.Advance(ctx, step); err != nil {
		return err
	}
	u.cursor = step.Cursor
	for len(u.ahead) > 0 && !ledger.EntryLess(u.cursor, u.ahead[0].ID) {
		u.ahead = u.ahead[1:]
	}
	return nil
}

// bury moves the reader over a result that becomes a dead letter.
func (u *turn) bury(ctx context.Context, step ledger.Step, d ledger.DeadLetter) error {
	step.Note, step.Dead = u.note.encode(), &d
	if err := u.advance(ctx, step); err != nil {
		return err
	}
	u.metrics.dead.WithLabelValues(u.target.Name).Inc()
	u.deps.Log.Warn("a result is a dead letter of a webhook", slog.String("webhook", u.target.Name), slog.String("app", u.app),
		slog.String("entry", d.Entry), slog.String("class", d.Reason), slog.Int("status", d.Status))
	return nil
}
