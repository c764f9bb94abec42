package worker

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/wxcourier/wxcourier/internal/buildinfo"
	"github.com/wxcourier/wxcourier/tasks"
)

// metrics are the Prometheus metrics of the deliveries; those of the calls are in package
// dispatch. All labels are from closed sets (apps, types, outcomes), never an openid or a
// message.
type metrics struct {
	outcomes *prometheus.CounterVec
	delivery *prometheus.HistogramVec
	build    prometheus.Collector
}

func newMetrics(outcomes *prometheus.CounterVec) *metrics {
	m := &metrics{
		outcomes: outcomes,
		delivery: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "wxcourier_delivery_seconds", Help: "From enqueue to outcome.",
			Buckets: prometheus.ExponentialBuckets(0.01, 3, 14),
		}, []string{"type"}),
		build: buildinfo.Metric(),
	}
	return m
}

func (m *metrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.delivery, m.build}
}

// register registers metrics with a registry.
func register(reg prometheus.Registerer, all ...prometheus.Collector) error {
	for _, c := range all {
		if err := reg.Register(c); err != nil {
			return fmt.Errorf("register the metrics: %w", err)
		}
	}
	return nil
}

func (m *metrics) countOutcome(result tasks.Result) {
	m.outcomes.WithLabelValues(result.App, result.Type, string(result.Outcome)).Inc()
	if !result.EnqueuedAt.IsZero() && result.Generation == 0 { // the time of a redrive includes the wait for an operator
		m.delivery.WithLabelValues(result.Type).Observe(result.FinishedAt.Sub(result.EnqueuedAt).Seconds())
	}
}

// RegisterTokenRefreshes registers the counter of token refreshes, and returns the hook for
// wechat.WithOnRefresh. It is no method of Replica, since the tokens are made first.
func RegisterTokenRefreshes(reg prometheus.Registerer) (hook func(app, result string), err error) {
	refreshes := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "wxcourier_token_refreshes_total", Help: "Token refreshes, by result: ok, kept, config or error.",
	}, []string{"app", "result"})
	if err := register(reg, refreshes); err != nil {
		return nil, err
	}
	return func(app, result string) { refreshes.WithLabelValues(app, result).Inc() }, nil
}
