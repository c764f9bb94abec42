package loadtest

import (
	"context"
	"math"
	"slices"
	"time"

	"github.com/wxcourier/wxcourier/tasks"
)

// resultSet summarizes the results of a phase.
type resultSet struct {
	first, last time.Time // finishing times
	took        []float64 // seconds from enqueuing to the outcome, of each
	outcomes    map[tasks.Outcome]int
}

// readResults reads all results after a cursor.
func (r *run) readResults(ctx context.Context, from tasks.Cursor) (*resultSet, error) {
	s := &resultSet{outcomes: make(map[tasks.Outcome]int)}
	for result, err := range r.inspector.Results(ctx, r.app, from, false) {
		if err != nil {
			return nil, err
		}
		if result.IsReceipt() {
			continue
		}
		s.add(result)
	}
	slices.Sort(s.took)
	return s, ctx.Err()
}

func (s *resultSet) add(r tasks.Result) {
	if s.first.IsZero() || r.FinishedAt.Before(s.first) {
		s.first = r.FinishedAt
	}
	if r.FinishedAt.After(s.last) {
		s.last = r.FinishedAt
	}
	s.took = append(s.took, r.FinishedAt.Sub(r.EnqueuedAt).Seconds())
	s.outcomes[r.Outcome]++
}

func (s *resultSet) count() int { return len(s.took) }

// quantile returns the q-quantile of the latencies (nearest rank).
func (s *resultSet) quantile(q float64) Figure {
	if len(s.took) == 0 {
		return unknown
	}
	rank := int(math.Ceil(q * float64(len(s.took))))
	return Figure(s.took[max(rank, 1)-1])
}
