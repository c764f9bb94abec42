package gateway

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/wxcourier/wxcourier/tasks"
)

// newOutcomes registers the counter of outcomes, or returns that of a worker in this process. A
// gateway counts the outcomes that pushes record, and those of the messages that it sends itself.
func newOutcomes(reg prometheus.Registerer) (*prometheus.CounterVec, error) {
	outcomes := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "wxcourier_outcomes_total", Help: "Outcomes recorded.",
	}, []string{"app", "type", "outcome"})
	err := reg.Register(outcomes)
	var twice prometheus.AlreadyRegisteredError
	if errors.As(err, &twice) {
		if shared, ok := twice.ExistingCollector.(*prometheus.CounterVec); ok {
			return shared, nil
		}
	}
	if err != nil {
		return nil, fmt.Errorf("register the metrics: %w", err)
	}
	return outcomes, nil
}

// CountOutcome counts an outcome that a push, or a client's own send, recorded, in metrics and over time.
func (g *Gateway) CountOutcome(r tasks.Result) {
	g.outcomes.WithLabelValues(r.App, r.Type, string(r.Outcome)).Inc()
	g.series.Add(r.App, r.Type, string(r.Outcome), r.ErrCode)
}
