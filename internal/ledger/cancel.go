package ledger

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"
)

// cancelsPerPipeline is how many cancellations go to Redis in one pipeline. Each is a script
// call of its own, so that Redis can serve other clients in between.
const cancelsPerPipeline = 500

// CancelResult is the result of Cancel for one task.
type CancelResult string

// The results of Cancel.
const (
	CancelNone    CancelResult = "none"     // no such task
	CancelDone    CancelResult = "done"     // it has ended already
	CancelSending CancelResult = "sending"  // it is being sent; it ends as canceled only if WeChat does not accept it
	CancelMarked  CancelResult = "canceled" // it will not be sent
)

// Cancel cancels tasks, and returns the results in the order of the ids. It may be repeated.
// With an error it returns the results of the ids before the failure; some of the others may be
// canceled as well.
func (l *Ledger) Cancel(ctx context.Context, app string, ids []string) ([]CancelResult, error) {
	results := make([]CancelResult, 0, len(ids))
	for eval := cancelScript.EvalSha; len(results) < len(ids); {
		next := ids[len(results):min(len(results)+cancelsPerPipeline, len(ids))]
		some, err := l.cancelPipeline(ctx, app, next, eval)
		results = append(results, some...)
		switch {
		case redis.HasErrorPrefix(err, "NOSCRIPT"):
			eval = cancelScript.Eval // also loads the script
		case err != nil:
			return results, fmt.Errorf("cancel tasks: %w", err)
		default:
			eval = cancelScript.EvalSha
		}
	}
	return results, nil
}

type scriptRunner func(ctx context.Context, c redis.Scripter, keys []string, args ...any) *redis.Cmd

// cancelPipeline sends one pipeline, and returns the results before the first error.
func (l *Ledger) cancelPipeline(ctx context.Context, app string, ids []string, eval scriptRunner) ([]CancelResult, error) {
	replies := make([]*redis.Cmd, len(ids))
	_, err := l.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, id := range ids {
			replies[i] = eval(ctx, p, []string{TaskKey(app, id), WaitingKey(app, id)}, id)
		}
		return nil
	})
	var results []CancelResult
	for _, reply := range replies {
		text, failed := reply.Text()
		if failed != nil {
			return results, failed
		}
		results = append(results, CancelResult(text))
	}
	return results, err
}
