package tasks

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/wxcourier/wxcourier/internal/ledger"
)

// Redrivable lists the outcomes that a redrive may take back: the task was not done, for
// a reason that may be mended by now, or nobody knows whether it was.
func Redrivable() []Outcome {
	var all []Outcome
	for _, outcome := range ledger.Redrivable() {
		all = append(all, Outcome(outcome))
	}
	return all
}

// A Redrive says which ended tasks are put back; see [Client.Redrive].
type Redrive struct {
	// Outcomes are those to take back, of [Redrivable]; required. To name
	// OutcomeUnknown is to accept that a person gets a message twice: nobody knows
	// whether WeChat took the first. (A template message that it did take, it drops
	// when it comes again within ten minutes, by its client_msg_id.)
	Outcomes []Outcome
	// ErrCodes, when set, are the only codes of WeChat's.
	ErrCodes []int
	// Batch, when set, is the only batch.
	Batch string
	// Since, when set, leaves out what ended before.
	Since time.Time
	// DryRun looks, and changes nothing.
	DryRun bool
}

// Redriven is what a redrive did about a task.
type Redriven string

// The answers of [Client.Redrive].
const (
	// RedriveDone: it waits again, in its next generation.
	RedriveDone Redriven = "redriven"
	// RedriveUnmatched: it is not known, or not what was asked for, or no longer.
	RedriveUnmatched Redriven = "unmatched"
	// RedriveExpired: its not_after has passed, so that it would not be sent. Its
	// outcome stands.
	RedriveExpired Redriven = "expired"
	// RedriveNoPayload: its record does not say what it was. So it is with a task that
	// could not be decoded.
	RedriveNoPayload Redriven = "no_payload"
	// RedriveBusy: it was put back, but a run that had it before has not ended, and asynq
	// takes no second one. Redrive it again to finish.
	RedriveBusy Redriven = "busy"
)

// Redrive puts an ended task back under its id: it waits again, as what was enqueued, in
// the next generation, its old outcome is in its history ([Client.History]), and its batch
// counts it as open. A redrive outweighs that the task's batch was canceled before it.
//
// Repeating it is harmless: a task that is put back has no outcome that matches. After
// an error, repeat it, or call [Client.FinishRedrives].
func (c *Client) Redrive(ctx context.Context, app, id string, want Redrive) (Redriven, error) {
	if err := want.validate(); err != nil {
		return "", err
	}
	e, err := c.ledger.Ended(ctx, app, id)
	switch {
	case errors.Is(err, ledger.ErrNotFound):
		return RedriveUnmatched, nil
	case err != nil:
		return "", err
	case e.Underway && e.Outcome == "":
		return c.resumeRedrive(ctx, app, id, e, want)
	case e.Outcome == "":
		return RedriveUnmatched, nil
	}
	result, err := decodeResult(e.Result)
	if err != nil {
		return "", err
	}
	if !want.matches(result) {
		return RedriveUnmatched, nil
	}
	envelope, err := DecodePayload(e.Kept.Payload)
	switch {
	case err != nil:
		return RedriveNoPayload, nil //nolint:nilerr // it is the answer
	case !envelope.NotAfter.IsZero() && time.Now().After(envelope.NotAfter):
		return RedriveExpired, nil
	case want.DryRun:
		return RedriveDone, nil
	}
	put, err := c.ledger.PutBack(ctx, ledger.Ref{App: app, ID: id, Batch: envelope.Batch}, e)
	if err != nil {
		return "", err
	}
	if !put {
		return RedriveUnmatched, nil // somebody was faster
	}
	e.Generation++
	return c.reenqueue(ctx, app, id, e)
}

// RedriveCandidates yields the ids of an app's tasks that a redrive may be about, each once: of
// the batch, or else of the stream of results, as far as it reaches back. Whether it is
// about them, [Client.Redrive] says. An error is the last thing it yields.
func (c *Client) RedriveCandidates(ctx context.Context, app string, want Redrive) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if err := want.validate(); err != nil {
			yield("", err)
			return
		}
		source := c.endedInStream(ctx, app, want)
		if want.Batch != "" {
			source = c.endedInBatch(ctx, app, want)
		}
		seen := make(map[string]bool)
		for id, err := range source {
			if err == nil && seen[id] {
				continue
			}
			seen[id] = true
			if !yield(id, err) || err != nil {
				return
			}
		}
	}
}

func (c *Client) endedInStream(ctx context.Context, app string, want Redrive) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		from := Cursor("")
		if !want.Since.IsZero() {
			from = Since(want.Since)
		}
		for r, err := range c.Results(ctx, app, from, false) {
			if err == nil && !want.matches(r) {
				continue
			}
			if !yield(r.ID, err) {
				return
			}
		}
		if err := ctx.Err(); err != nil { // which Results does not yield
			yield("", err)
		}
	}
}

// endedInBatch reads the batch itself: the stream may have lost its results.
func (c *Client) endedInBatch(ctx context.Context, app string, want Redrive) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		var outcomes []string
		for _, outcome := range want.Outcomes {
			outcomes = append(outcomes, string(outcome))
		}
		for cursor := uint64(0); ; {
			ids, next, err := c.ledger.BatchEnded(ctx, ledger.Ref{App: app, Batch: want.Batch}, cursor, outcomes)
			if errors.Is(err, ledger.ErrNotFound) {
				return
			}
			if err != nil {
				yield("", err)
				return
			}
			for _, id := range ids {
				if !yield(id, nil) {
					return
				}
			}
			if cursor = next; cursor == 0 {
				return
			}
		}
	}
}

// History is the outcomes that redrives of a task have taken back, the oldest first, at
// most the last ten; or [ErrNotFound].
func (c *Client) History(ctx context.Context, app, id string) ([]Result, error) {
	e, err := c.ledger.Ended(ctx, app, id)
	if errors.Is(err, ledger.ErrNotFound) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	var all []Result
	for _, past := range e.History {
		r, err := decodeResult(past.Result)
		if err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	return all, nil
}

func (want Redrive) validate() error {
	if len(want.Outcomes) == 0 {
		return fmt.Errorf("redrive: no outcome is named; name one or more of %v", Redrivable())
	}
	for _, outcome := range want.Outcomes {
		if !slices.Contains(Redrivable(), outcome) {
			return fmt.Errorf("redrive: a task that is %s cannot be put back; %v can", outcome, Redrivable())
		}
	}
	return nil
}

func (want Redrive) matches(r Result) bool {
	return slices.Contains(want.Outcomes, r.Outcome) &&
		(len(want.ErrCodes) == 0 || slices.Contains(want.ErrCodes, r.ErrCode)) &&
		(want.Batch == "" || want.Batch == r.Batch) &&
		(want.Since.IsZero() || !r.FinishedAt.Before(want.Since))
}
