package pushes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/asynqwire"
	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/wechat/callback"
)

// MediaChecks ends the tasks of media checks (seccheck:media) with WeChat's verdicts.
//
// A verdict may come before the answer to the request was recorded: then the ledger keeps it, and the
// worker that records the answer ends the task. A verdict that comes after the task has waited too
// long replaces the outcome unknown.
type MediaChecks struct {
	MediaChecksDeps
	ledger *ledger.Ledger
}

// MediaChecksDeps are the dependencies of MediaChecks. All are required except OnOutcome and Now.
type MediaChecksDeps struct {
	Redis  redis.UniversalClient
	Policy ledger.Policy // of the records of tasks, as the workers have it
	Log    *slog.Logger
	// OnOutcome is called once for each outcome that was recorded, after Redis has it.
	OnOutcome func(r tasks.Result)
	// Now is the clock of FinishedAt; nil is time.Now.
	Now func() time.Time
}

// NewMediaChecks returns a handler. It does no I/O.
func NewMediaChecks(deps MediaChecksDeps) *MediaChecks {
	if deps.OnOutcome == nil {
		deps.OnOutcome = func(tasks.Result) {}
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	return &MediaChecks{deps, ledger.New(deps.Redis, deps.Policy)}
}

// Handle implements Handler.
func (h *MediaChecks) Handle(ctx context.Context, app string, pushes []callback.Push) error {
	var errs []error
	for _, p := range pushes {
		if p.MediaCheck == nil || !ledger.ValidTraceID(p.MediaCheck.TraceID) {
			continue
		}
		if err := h.handle(ctx, app, *p.MediaCheck); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// handle ends the task of a verdict, or keeps the verdict if there is none yet.
func (h *MediaChecks) handle(ctx context.Context, app string, m callback.MediaCheck) error {
	t, known, err := h.ledger.FindTrace(ctx, app, m.TraceID, encodeCheck(m))
	if err != nil || !known {
		return err
	}
	var result tasks.Result
	if err := json.Unmarshal(t.Result, &result); err != nil {
		h.Log.Warn("the task of a media check cannot be read", slog.String("app", app))
		return h.ledger.ForgetTrace(ctx, app, m.TraceID)
	}
	CompleteCheck(&result, m, h.Now())
	if err := h.settle(ctx, t, result); err != nil {
		return err
	}
	if err := h.ledger.ForgetTrace(ctx, app, m.TraceID); err != nil {
		return err
	}
	return h.wakeCopy(ctx, t.Queue, result)
}

// settle records the outcome, unless the task has one other than unknown, or was redriven.
func (h *MediaChecks) settle(ctx context.Context, t ledger.TracedTask, result tasks.Result) error {
	ref := ledger.Ref{App: result.App, ID: result.ID, Batch: result.Batch}
	ending := ledger.SettleRequest{
		Outcome: string(result.Outcome), Result: result.Encode(), Queue: t.Queue, Generation: result.Generation, NoBlob: true,
	}
	if slices.Contains(ledger.Redrivable(), ending.Outcome) {
		// A redrive needs the payload, which only asynq has, or the record of an outcome unknown.
		copied, err := asynqwire.ReadCopy(ctx, h.Redis, t.Queue, asynqID(result))
		if err != nil {
			return err
		}
		if copied != nil {
			ending.Content = ledger.TaskContent{Payload: copied.Payload}
		} else if state, err := h.ledger.RedriveState(ctx, result.App, result.ID); err == nil {
			ending.Content = state.Content
		} else if !errors.Is(err, ledger.ErrNotFound) {
			return err
		}
	}
	settled, err := h.ledger.Settle(ctx, ref, ending)
	if err != nil {
		return err
	}
	if !settled.Written && settled.Outcome == string(tasks.OutcomeUnknown) {
		result.Supersedes = tasks.OutcomeUnknown
		ending.Result, ending.Replaces = result.Encode(), t.Runner
		if settled, err = h.ledger.Settle(ctx, ref, ending); err != nil {
			return err
		}
	}
	if !settled.Written {
		h.Log.Debug("the verdict of a media check is dropped: its task has ended, or was redriven",
			slog.String("app", result.App), slog.String("task", result.ID))
		return nil
	}
	h.OnOutcome(result)
	return nil
}

func asynqID(r tasks.Result) string { return tasks.Envelope{App: r.App, ID: r.ID}.TaskID() }

// wakeCopy lets a worker end asynq's copy of the task now, rather than when the task would have waited
// too long.
func (h *MediaChecks) wakeCopy(ctx context.Context, queue string, result tasks.Result) error {
	moved, err := asynqwire.RunRetry(ctx, h.Redis, queue, asynqID(result))
	if err == nil && moved {
		err = h.Redis.Publish(ctx, ledger.WakeChannel, queue).Err()
	}
	if err != nil {
		return fmt.Errorf("wake the task of the callback: %w", err)
	}
	return nil
}
