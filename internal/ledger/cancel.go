package ledger

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"
)

// cancelsPerPipeline is how many cancellations go to Redis in one pipeline. Each is a script of
// its own, so that others get their turn in between.
const cancelsPerPipeline = 500

// Canceling says what Cancel met.
type Canceling string

// The answers of Cancel.
const (
	CancelNone    Canceling = "none"     // no such task
	CancelDone    Canceling = "done"     // it has ended already
	CancelSending Canceling = "sending"  // it is being sent; it ends as canceled only if WeChat does not take it
	CancelMarked  Canceling = "canceled" // it will not be sent
)

// Cancel marks tasks as taken back, and tells what it met, in the order of the ids.
// Repeating it is no error. With an error come the answers of those before it; of the
// others some may have been marked as well.
func (l *Ledger) Cancel(ctx context.Context, app string, ids []string) ([]Canceling, error) {
	met := make([]Canceling, 0, len(ids))
	for eval := cancelScript.EvalSha; len(met) < len(ids); {
		next := ids[len(met):min(len(met)+cancelsPerPipeline, len(ids))]
		answers, err := l.cancelPipeline(ctx, app, next, eval)
		met = append(met, answers...)
		switch {
		case redis.HasErrorPrefix(err, "NOSCRIPT"):
			eval = cancelScript.Eval // which Redis remembers
		case err != nil:
			return met, fmt.Errorf("cancel tasks: %w", err)
		default:
			eval = cancelScript.EvalSha
		}
	}
	return met, nil
}

type scriptRunner func(ctx context.Context, c redis.Scripter, keys []string, args ...any) *redis.Cmd

// cancelPipeline sends one pipeline, and returns the answers that came before the first error.
func (l *Ledger) cancelPipeline(ctx context.Context, app string, ids []string, eval scriptRunner) ([]Canceling, error) {
	answers := make([]*redis.Cmd, len(ids))
	_, err := l.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, id := range ids {
			answers[i] = eval(ctx, p, []string{TaskKey(app, id), WaitingKey(app, id)}, id)
		}
		return nil
	})
	var met []Canceling
	for _, answer := range answers {
		text, failed := answer.Text()
		if failed != nil {
			return met, failed
		}
		met = append(met, Canceling(text))
	}
	return met, err
}
