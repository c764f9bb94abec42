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

// Redrivable returns the outcomes that a redrive may replace: the task was not sent, for a
// reason that may be fixed by now, or it is unknown whether it was sent.
func Redrivable() []Outcome {
	var all []Outcome
	for _, outcome := range ledger.Redrivable() {
		all = append(all, Outcome(outcome))
	}
	return all
}

// A Redrive selects the ended tasks to enqueue again; see [Inspector.Redrive].
type Redrive struct {
	// Outcomes are the outcomes to redrive, out of [Redrivable]; required. With
	// OutcomeUnknown a message may be delivered twice, since it is unknown whether WeChat
	// accepted the first request. (WeChat drops a repeated template message within ten
	// minutes, by its client_msg_id.)
	Outcomes []Outcome
	// Types, if not empty, selects tasks of these types.
	Types []string
	// ErrCodes, if not empty, selects tasks with one of these WeChat codes.
	ErrCodes []int
	// Batch, if not empty, selects the tasks of this batch.
	Batch string
	// Since, if not zero, selects tasks that ended at or after this time.
	Since time.Time
	// Until, if not zero, selects tasks that ended before this time.
	Until time.Time
	// DryRun changes nothing and returns what a redrive would do.
	DryRun bool
}

// RedriveResult is the result of a redrive of one task.
type RedriveResult string

// The results of [Inspector.Redrive].
const (
	// RedriveDone: the task waits again, in its next generation.
	RedriveDone RedriveResult = "redriven"
	// RedriveUnmatched: the task is not known, or does not match, or does not match any
	// longer.
	RedriveUnmatched RedriveResult = "unmatched"
	// RedriveExpired: its not_after has passed, so it would not be sent. Its outcome stays.
	RedriveExpired RedriveResult = "expired"
	// RedriveNoPayload: its record has no payload that can be decoded.
	RedriveNoPayload RedriveResult = "no_payload"
	// RedriveBusy: it was put back, but an earlier run of it has not ended, and asynq
	// accepts no second task of this id. Redrive it again to finish.
	RedriveBusy RedriveResult = "busy"
)

// Redrive enqueues an ended task again, under its id and with its original payload. The task
// is then in the next generation, its old outcome is in its history ([Inspector.History]), and
// its batch counts it as open. A cancellation of its batch before the redrive no longer
// applies to it.
//
// Redrive may be repeated: a task that was put back has no outcome, so it does not match.
// After an error, repeat it, or call [Inspector.FinishRedrives].
func (i *Inspector) Redrive(ctx context.Context, app, id string, want Redrive) (RedriveResult, error) {
	if err := want.validate(); err != nil {
		return "", err
	}
	e, err := i.ledger.RedriveState(ctx, app, id)
	switch {
	case errors.Is(err, ledger.ErrNotFound):
		return RedriveUnmatched, nil
	case err != nil:
		return "", err
	case e.InProgress && e.Outcome == "":
		return i.resumeRedrive(ctx, app, id, e, want)
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
	envelope, err := DecodePayload(e.Content.Payload)
	switch {
	case err != nil:
		return RedriveNoPayload, nil //nolint:nilerr // the result says it
	case !envelope.NotAfter.IsZero() && time.Now().After(envelope.NotAfter):
		return RedriveExpired, nil
	case want.DryRun:
		return RedriveDone, nil
	}
	put, err := i.ledger.BeginRedrive(ctx, ledger.Ref{App: app, ID: id, Batch: envelope.Batch}, e)
	if err != nil {
		return "", err
	}
	if !put {
		return RedriveUnmatched, nil // another call put it back first
	}
	e.Generation++
	return i.reenqueue(ctx, app, id, e)
}

// RedriveCandidates yields the ids of an app's tasks that may match a redrive, each id once.
// They come from the batch, or else from the stream of results, as far as it reaches back.
// [Inspector.Redrive] checks whether a candidate matches.
//
// If results.stream_max_len has cut results that results.retention would have kept, after
// Redrive.Since if that is set, it yields a *[ResultsCutError], and continues if the caller
// does: those tasks can only be redriven by their batch or id. The iteration ends after any
// other error.
func (i *Inspector) RedriveCandidates(ctx context.Context, app string, want Redrive) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if err := want.validate(); err != nil {
			yield("", err)
			return
		}
		source := i.endedInStream(ctx, app, want)
		if want.Batch != "" {
			source = i.endedInBatch(ctx, app, want)
		}
		seen := make(map[string]bool)
		for id, err := range source {
			if err == nil && seen[id] {
				continue
			}
			seen[id] = true
			if !yield(id, err) || err != nil && !isCut(err) {
				return
			}
		}
	}
}

// isCut reports whether an error does not end an iteration.
func isCut(err error) bool {
	var cut *ResultsCutError
	return errors.As(err, &cut)
}

// endedInStream yields the tasks in the stream of results that match. The records of tasks
// whose results were removed for their age have expired, so that nothing is missing then.
func (i *Inspector) endedInStream(ctx context.Context, app string, want Redrive) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		from := Cursor("0-0") // and not "", which takes what there is without a word
		if !want.Since.IsZero() {
			from = Since(want.Since)
		}
		for r, err := range i.Results(ctx, app, from, false) {
			var cut *ResultsCutError
			if errors.As(err, &cut) && !cut.ByLength || err == nil && (r.IsReceipt() || !want.matches(r)) {
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

// endedInBatch yields the ended tasks of the batch from the batch itself, since the stream
// may no longer have their results.
func (i *Inspector) endedInBatch(ctx context.Context, app string, want Redrive) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		var outcomes []string
		for _, outcome := range want.Outcomes {
			outcomes = append(outcomes, string(outcome))
		}
		for cursor := uint64(0); ; {
			ids, next, err := i.ledger.BatchEnded(ctx, ledger.Ref{App: app, Batch: want.Batch}, cursor, outcomes)
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

// History returns the outcomes of a task before its redrives, the oldest first and at most
// the last ten. The error is [ErrNotFound] for an unknown id.
func (i *Inspector) History(ctx context.Context, app, id string) ([]Result, error) {
	e, err := i.ledger.RedriveState(ctx, app, id)
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
		return fmt.Errorf("redrive: no outcome given; give one or more of %v", Redrivable())
	}
	for _, outcome := range want.Outcomes {
		if !slices.Contains(Redrivable(), outcome) {
			return fmt.Errorf("redrive: the outcome %s cannot be redriven; only %v can", outcome, Redrivable())
		}
	}
	return nil
}

func (want Redrive) matches(r Result) bool {
	return slices.Contains(want.Outcomes, r.Outcome) &&
		(len(want.Types) == 0 || slices.Contains(want.Types, r.Type)) &&
		(len(want.ErrCodes) == 0 || slices.Contains(want.ErrCodes, r.ErrCode)) &&
		(want.Batch == "" || want.Batch == r.Batch) &&
		(want.Since.IsZero() || !r.FinishedAt.Before(want.Since)) &&
		(want.Until.IsZero() || r.FinishedAt.Before(want.Until))
}
