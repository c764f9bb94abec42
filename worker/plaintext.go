package worker

import (
	"context"

	"github.com/wxcourier/wxcourier/internal/dispatch"
	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/tasks"
)

// makePlaintext ends a task whose link is made without a call. Its lane has no limits; the permit
// that came with the dequeue is returned unused.
func (d *deliverer) makePlaintext(ctx context.Context, j *job) error {
	if d.open(ctx, j) != nil {
		return retryLater(redisRetryDelay, "Redis did not answer")
	}
	if j.opened.Admission != ledger.Proceed {
		return d.settleUnsent(ctx, j)
	}
	j.answer.OpenLink = j.PlaintextScheme()
	return d.end(ctx, j, dispatch.Verdict{Outcome: tasks.OutcomeAccepted})
}
