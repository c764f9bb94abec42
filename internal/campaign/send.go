package campaign

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/tasks"
)

// The errors of [Sender.Send] before it enqueues anything.
var (
	// ErrChanged: an earlier run of the batch had another table or template.
	ErrChanged = errors.New("campaign: the table or the template is not that of the first run of this batch")
	// ErrForeign: the batch has tasks, and no campaign made them; or a campaign of another type.
	ErrForeign = errors.New("campaign: the batch belongs to something else")
	// ErrCanceled: the batch was canceled. Also returned when that happens while rows are enqueued.
	ErrCanceled = errors.New("campaign: the batch was canceled")
)

// Sender sends campaigns through a Redis. It is safe for concurrent use.
type Sender struct {
	rdb    redis.UniversalClient
	client *tasks.Client
	ledger *ledger.Ledger
	chunk  int // rows that are enqueued at a time
}

// NewSender returns a Sender on rdb. It does no I/O. The caller closes the Sender after its last use, and
// then rdb.
func NewSender(rdb redis.UniversalClient) *Sender {
	return &Sender{rdb: rdb, client: tasks.NewClient(rdb), ledger: ledger.New(rdb, ledger.Policy{}), chunk: chunkRows}
}

// Close ends what the Sender does in the background, and waits for it.
func (s *Sender) Close() { s.client.Close() }

// State is what earlier runs of a batch did.
type State struct {
	Started time.Time // of the first run; zero: this is the first one
	// Enqueued counts the valid rows of the table that were enqueued, Remaining those that were not.
	Enqueued, Remaining int
	// TableChanged and TemplateChanged: the first run, or the last one that accepted a change, had
	// another one. Rows that were enqueued are not sent again; the remaining ones are sent as they
	// are now.
	TableChanged, TemplateChanged bool
	// Foreign: see ErrForeign. Canceled: see ErrCanceled.
	Foreign, Canceled bool
}

// Changed reports whether [SendOptions.AcceptChange] is needed.
func (s State) Changed() bool { return s.TableChanged || s.TemplateChanged }

// Err returns why the rows cannot be enqueued; nil: they can be.
func (s State) Err(acceptChange bool) error {
	switch {
	case s.Foreign:
		return ErrForeign
	case s.Canceled:
		return ErrCanceled
	case s.Changed() && !acceptChange:
		return ErrChanged
	}
	return nil
}

// State reads what earlier runs of the batch did. It takes one round trip, and reads the table if
// there were any.
func (s *Sender) State(ctx context.Context, c *Checked) (State, error) {
	r, err := s.readRecord(ctx, c.Plan.App, c.Plan.Batch)
	if err != nil {
		return State{}, err
	}
	return c.state(ctx, r)
}

func (c *Checked) state(ctx context.Context, r record) (State, error) {
	state := State{Started: r.started, Remaining: c.Valid, Canceled: r.canceled > 0}
	if !r.known {
		state.Foreign = r.batch
		return state, nil
	}
	state.Foreign = r.typ != c.Plan.Type
	state.TableChanged, state.TemplateChanged = r.table != c.Digest, r.template != c.Plan.Template.Digest
	if len(r.sent) == 0 {
		return state, nil
	}
	for row, err := range c.again(ctx) {
		if err != nil {
			return State{}, err
		}
		if len(row.faults) == 0 && r.sent[row.key] {
			state.Enqueued++
		}
	}
	state.Remaining = c.Valid - state.Enqueued
	return state, nil
}

// SendOptions are the options of [Sender.Send].
type SendOptions struct {
	// AcceptChange allows a table or a template that is not that of the first run.
	AcceptChange bool
	// Retention is how long the records of ended tasks are kept: results.retention. Rows that a
	// killed run was enqueuing are enqueued again within it, and are left out later. 0: 24 h.
	Retention time.Duration
	// OnProgress, if set, is called after each chunk.
	OnProgress func(Sent)
}

// Sent counts the rows of a run.
type Sent struct {
	Enqueued int `json:"enqueued"` // by this run
	Earlier  int `json:"earlier"`  // by an earlier run
	// Unsure counts rows that a killed run may have sent, so long ago that no record tells. They
	// are left out.
	Unsure int `json:"unsure,omitempty"`
	// Taken counts rows whose id belongs to a task of another type.
	Taken int `json:"taken,omitempty"`
	// TooLate counts rows whose turn at the plan's rate comes after their not_after.
	TooLate int `json:"too_late,omitempty"`
}

// chunkRows is the number of rows that are enqueued at a time, except in tests.
const chunkRows = 1000

// Send enqueues the valid rows that no run of the batch has enqueued before. After an error, or
// when the process was killed, calling it again continues.
func (s *Sender) Send(ctx context.Context, c *Checked, options SendOptions) (Sent, error) {
	r, err := s.readRecord(ctx, c.Plan.App, c.Plan.Batch)
	if err != nil {
		return Sent{}, err
	}
	state, err := c.state(ctx, r)
	if err == nil {
		err = state.Err(options.AcceptChange)
	}
	if err != nil {
		return Sent{}, err
	}
	if state.Remaining > 0 || !r.known || state.Changed() {
		if err := s.begin(ctx, c); err != nil {
			return Sent{}, err
		}
	}
	if options.Retention <= 0 {
		options.Retention = 24 * time.Hour
	}
	run := &sending{Sender: s, Checked: c, options: options, record: r, pace: newPace(c.Plan, r.rateUntil, time.Now())}
	err = run.all(ctx)
	return run.sent, err
}

// sending is one run of Send.
type sending struct {
	*Sender
	*Checked
	options SendOptions
	record  record
	pace    pace
	sent    Sent
}

// all enqueues the rows in chunks.
func (r *sending) all(ctx context.Context) error {
	var chunk []message
	flush := func() error {
		err := r.enqueue(ctx, chunk)
		chunk = chunk[:0]
		return err
	}
	for row, err := range r.again(ctx) {
		if err != nil {
			return err
		}
		if len(row.faults) > 0 {
			continue
		}
		if r.record.sent[row.key] {
			r.sent.Earlier++
			continue
		}
		if chunk = append(chunk, row.message); len(chunk) == r.chunk {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}

// enqueue enqueues some rows.
func (r *sending) enqueue(ctx context.Context, chunk []message) error {
	chunk, err := r.withoutUnsure(ctx, chunk)
	if err != nil || len(chunk) == 0 {
		return err
	}
	canceled, err := r.beginChunk(ctx, r.Plan, chunk)
	if err != nil {
		return err
	}
	if canceled > r.record.canceled {
		return ErrCanceled
	}
	inTime, envelopes := r.schedule(chunk)
	enqueued, err := r.submit(ctx, inTime, envelopes)
	if err != nil {
		return err // the rows stay unsure
	}
	if err := r.endChunk(ctx, r.Plan, enqueued, r.pace.until()); err != nil {
		return err
	}
	r.sent.Enqueued += len(enqueued)
	if r.options.OnProgress != nil {
		r.options.OnProgress(r.sent)
	}
	return nil
}

// schedule gives each row its time, and leaves out those whose time is after their not_after.
func (r *sending) schedule(chunk []message) ([]message, []tasks.Envelope) {
	inTime, envelopes := make([]message, 0, len(chunk)), make([]tasks.Envelope, 0, len(chunk))
	for _, m := range chunk {
		e := m.envelope
		if at := r.pace.next(); !at.IsZero() {
			e.ProcessAt = at
		}
		if !e.NotAfter.IsZero() && e.NotAfter.Before(e.ProcessAt) {
			r.sent.TooLate++
			continue
		}
		inTime, envelopes = append(inTime, m), append(envelopes, e)
	}
	return inTime, envelopes
}

// withoutUnsure removes the rows that a killed run may have sent, when the records that would tell
// have expired.
func (r *sending) withoutUnsure(ctx context.Context, chunk []message) ([]message, error) {
	if len(r.record.unsure) == 0 || time.Since(r.record.unsureAt) < r.options.Retention {
		return chunk, nil
	}
	var ids []string
	for _, m := range chunk {
		if r.record.unsure[m.key] {
			ids = append(ids, m.envelope.ID)
		}
	}
	if len(ids) == 0 {
		return chunk, nil
	}
	exist, err := r.ledger.Exist(ctx, r.Plan.App, ids)
	if err != nil {
		return nil, err
	}
	there := make(map[string]bool, len(ids))
	for i, id := range ids {
		there[id] = exist[i]
	}
	kept := chunk[:0]
	for _, m := range chunk {
		if r.record.unsure[m.key] && !there[m.envelope.ID] {
			r.sent.Unsure++
			continue
		}
		kept = append(kept, m)
	}
	return kept, nil
}

// submitWaits are the waits before rows are enqueued again whose enqueuing failed: 15 s in all.
func submitWaits() []time.Duration {
	return []time.Duration{500 * time.Millisecond, 1500 * time.Millisecond, 4 * time.Second, 9 * time.Second}
}

// submit enqueues envelopes, and returns the messages that are enqueued now. A broken connection is
// tried again: an id that was enqueued is not enqueued twice.
func (r *sending) submit(ctx context.Context, chunk []message, envelopes []tasks.Envelope) ([]message, error) {
	enqueued := make([]message, 0, len(chunk))
	for try := 0; ; try++ {
		var failed []message
		var again []tasks.Envelope
		var failure error
		for i, result := range r.client.SubmitMany(ctx, envelopes) {
			switch err := result.Err; {
			case err == nil:
				enqueued = append(enqueued, chunk[i])
			case errors.Is(err, tasks.ErrIDInUse):
				r.sent.Taken++
			default:
				failed, again, failure = append(failed, chunk[i]), append(again, envelopes[i]), err
			}
		}
		if len(failed) == 0 {
			return enqueued, nil
		}
		var invalid *tasks.ValidationError
		if try == len(submitWaits()) || errors.Is(failure, tasks.ErrRedisFull) || errors.As(failure, &invalid) {
			return nil, fmt.Errorf("%d rows could not be enqueued: %w", len(failed), failure)
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(submitWaits()[try]):
		}
		chunk, envelopes = failed, again
	}
}

// pace spreads the rows of a run in time.
type pace struct {
	start time.Time // of the first row; zero: at once
	rate  float64   // rows a second; 0: all at the start
	n     int
}

// newPace returns the pace of a run. A run that continues another one begins after the last row of
// that one is due.
func newPace(p Plan, rateUntil, now time.Time) pace {
	start := p.At
	if p.Rate > 0 {
		for _, t := range []time.Time{now, rateUntil} {
			if t.After(start) {
				start = t
			}
		}
	}
	return pace{start: start, rate: p.Rate}
}

// next returns when the next row is due; zero: at once.
func (p *pace) next() time.Time {
	p.n++
	if p.rate <= 0 {
		return p.start
	}
	return p.at(p.n - 1)
}

func (p *pace) at(n int) time.Time {
	seconds := float64(n) / p.rate
	whole := math.Floor(seconds)
	return p.start.Add(time.Duration(whole) * time.Second).Add(time.Duration((seconds - whole) * float64(time.Second)))
}

// until returns when a row after the last one would be due; zero without a rate.
func (p *pace) until() time.Time {
	if p.rate <= 0 {
		return time.Time{}
	}
	return p.at(p.n)
}
