package gateway

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/wxcourier/wxcourier/internal/buildinfo"
)

// metrics are the Prometheus metrics of the requests. A route is the pattern that matched, never a
// path.
type metrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
}

func newMetrics() *metrics {
	return &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "wxcourier_http_requests_total", Help: "Requests to the gateway, by route and status.",
		}, []string{"route", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "wxcourier_http_seconds", Help: "Duration of requests to the gateway, from their headers to the end of the answer.",
			Buckets: prometheus.ExponentialBuckets(0.001, 3, 11),
		}, []string{"route"}),
	}
}

// register registers the metrics, and that of the build unless a worker in this process did.
func (m *metrics) register(reg prometheus.Registerer) error {
	var twice prometheus.AlreadyRegisteredError
	if err := reg.Register(buildinfo.Metric()); err != nil && !errors.As(err, &twice) {
		return fmt.Errorf("register the metrics: %w", err)
	}
	for _, c := range []prometheus.Collector{m.requests, m.seconds} {
		if err := reg.Register(c); err != nil {
			return fmt.Errorf("register the metrics: %w", err)
		}
	}
	return nil
}

func (m *metrics) count(route string, code int, took time.Duration) {
	m.requests.WithLabelValues(route, strconv.Itoa(code)).Inc()
	m.seconds.WithLabelValues(route).Observe(took.Seconds())
}
