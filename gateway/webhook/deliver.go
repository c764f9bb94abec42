package webhook

import (
	"context"
	"log/slog"
	"time"

	"github.com/wxcourier/wxcourier/internal/ledger"
)

// deliver sends a batch and records what became of it. keep is true if the turn goes on; else the
// reader was given back, and wait is the time until the next try.
func (u *turn) deliver(ctx context.Context, b *batch) (keep bool, wait time.Duration, err error) {
	a := u.target.client.send(ctx, b.Message, b.body(u.app))
	if a.status == 0 && ctx.Err() != nil {
		return false, 0, u.release() // at the shutdown: the batch stays stored
	}
	u.metrics.deliveries.WithLabelValues(u.target.Name, string(a.class)).Inc()
	switch a.class {
	case ClassOK:
		return true, 0, u.delivered(b)
	case ClassGone:
		return u.gone(b, a)
	case ClassRefused:
		return u.refused(b, a)
	default:
		return u.failed(a)
	}
}

// delivered ends a batch.
func (u *turn) delivered(b *batch) error {
	if u.note.Failures > 0 {
		u.deps.Log.Info("a webhook answers again", slog.String("webhook", u.target.Name), slog.String("app", u.app))
	}
	u.note = note{Suspects: max(0, u.note.Suspects-len(b.Entries))}
	return u.advance(ledger.Step{Cursor: b.End, Passed: b.Passed, Oldest: b.Type == typeGap, Note: u.note.encode()})
}

// refused halves a batch. A single result becomes a dead letter.
func (u *turn) refused(b *batch, a answer) (keep bool, wait time.Duration, err error) {
	switch {
	case b.Type == typeGap:
		u.deps.Log.Warn("a webhook refused the event of a gap", slog.String("webhook", u.target.Name), slog.String("app", u.app), slog.Int("status", a.status))
		return true, 0, u.advance(ledger.Step{Cursor: b.End, Oldest: true, Note: u.note.encode()})
	case len(b.Entries) > 1:
		u.note.Suspects = len(b.Entries)
		u.ahead = nil // read again, for a smaller batch
		return true, 0, nil
	case u.note.Refused >= maxRefused && u.note.Failures < refusedTries:
		return u.failed(a)
	}
	u.note = note{Class: a.class, Status: a.status, Refused: u.note.Refused + 1}
	return true, 0, u.bury(ledger.Step{Cursor: b.End, Passed: b.Passed}, ledger.DeadLetter{
		Entry: b.Entries[0], Result: b.bodies[0].Result, Message: b.Message, Reason: string(a.class), Status: a.status,
	})
}

// failed gives the reader back until the next try of the same batch.
func (u *turn) failed(a answer) (keep bool, wait time.Duration, err error) {
	u.note.Class, u.note.Status = a.class, a.status
	u.note.Failures++
	if u.note.Since.IsZero() {
		u.note.Since = time.Now().UTC().Truncate(time.Second)
	}
	wait = pause(u.tuning.schedule, u.note.Failures, a.retryAfter)
	level := slog.LevelWarn
	if u.note.Failures == len(u.tuning.schedule)+1 {
		level = slog.LevelError // a day has passed
	}
	u.deps.Log.Log(u.record, level, "a webhook does not take results", slog.String("webhook", u.target.Name), slog.String("app", u.app),
		slog.String("class", string(a.class)), slog.Int("status", a.status), slog.Int("attempt", u.note.Failures), slog.Duration("delay", wait))
	ctx, cancel := context.WithTimeout(u.record, settleTimeout)
	defer cancel()
	return false, wait, u.reader.Fail(ctx, wait, u.note.encode())
}

// gone disables the endpoint.
func (u *turn) gone(b *batch, a answer) (keep bool, wait time.Duration, err error) {
	ctx, cancel := context.WithTimeout(u.record, settleTimeout)
	defer cancel()
	if err := u.disable(ctx, u.target); err != nil {
		return false, 0, err
	}
	u.deps.Log.Warn("a webhook is disabled: its endpoint answered 410", slog.String("webhook", u.target.Name), slog.String("app", u.app),
		slog.String("batch", b.Message))
	u.note.Class, u.note.Status = a.class, a.status
	return false, u.tuning.poll, u.reader.Fail(ctx, 0, u.note.encode())
}
