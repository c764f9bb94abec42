package webhook

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/wxcourier/wxcourier/internal/ledger"
)

// metrics are those of a Sender. The labels are the names of the configuration, app ids and classes.
type metrics struct {
	lag, lagSeconds, disabled *prometheus.GaugeVec
	deliveries, dead, gaps    *prometheus.CounterVec
}

func newMetrics() *metrics {
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
	}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	return &metrics{
		lag:        gauge("wxcourier_webhook_lag", "Results that an endpoint has not got.", "webhook", "app"),
		lagSeconds: gauge("wxcourier_webhook_lag_seconds", "Age of the oldest of them.", "webhook", "app"),
		disabled:   gauge("wxcourier_webhook_disabled", "1 while an answer 410 disables an endpoint.", "webhook"),
		deliveries: counter("wxcourier_webhook_deliveries_total", "Calls to endpoints, by what became of them.", "webhook", "result"),
		dead:       counter("wxcourier_webhook_dead_total", "Results that an endpoint refused, now dead letters.", "webhook"),
		gaps:       counter("wxcourier_webhook_gaps_total", "Times that results were removed before an endpoint got them.", "webhook"),
	}
}

func (m *metrics) register(r prometheus.Registerer) error {
	for _, c := range []prometheus.Collector{m.lag, m.lagSeconds, m.disabled, m.deliveries, m.dead, m.gaps} {
		if err := r.Register(c); err != nil {
			return fmt.Errorf("webhook: register the metrics: %w", err)
		}
	}
	return nil
}

// forget removes the gauges of an endpoint that has left the configuration.
func (m *metrics) forget(webhook string) {
	for _, g := range []*prometheus.GaugeVec{m.lag, m.lagSeconds, m.disabled} {
		g.DeletePartialMatch(prometheus.Labels{"webhook": webhook})
	}
}

// measure sets the gauges now and then.
func (s *Sender) measure(ctx context.Context, targets []*target) error {
	if s.deps.Registry == nil || time.Since(s.reported) < gaugesInterval {
		return nil
	}
	s.reported = time.Now()
	gone, err := s.disabled(ctx, targets)
	if err != nil {
		return err
	}
	for _, t := range targets {
		value := 0.0
		if gone[t.Name] {
			value = 1
		}
		s.metrics.disabled.WithLabelValues(t.Name).Set(value)
	}
	for _, app := range s.apps {
		readers, err := ledger.Readers(ctx, s.deps.Redis, app)
		if err != nil {
			return err
		}
		for _, r := range readers {
			if !slices.ContainsFunc(targets, func(t *target) bool { return t.Name == r.Name && t.WantsApp(app) }) {
				continue
			}
			s.metrics.lag.WithLabelValues(r.Name, app).Set(float64(r.Lag))
			seconds := 0.0
			if !r.Oldest.IsZero() {
				seconds = max(0, time.Since(r.Oldest).Seconds())
			}
			s.metrics.lagSeconds.WithLabelValues(r.Name, app).Set(seconds)
		}
	}
	return nil
}
