package gateway

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/wxcourier/wxcourier/gateway/api"
	"github.com/wxcourier/wxcourier/internal/buildinfo"
	"github.com/wxcourier/wxcourier/internal/pushes"
	"github.com/wxcourier/wxcourier/tasks"
)

// metrics are the Prometheus metrics of the requests. A route is the pattern that matched, never a
// path.
type metrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	receipts *prometheus.CounterVec
	dropped  *prometheus.CounterVec // receipts that were joined to no message
	expected expectedReceipts
}

func newMetrics(apps func() []api.App) *metrics {
	return &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "wxcourier_http_requests_total", Help: "Requests to the gateway, by route and status.",
		}, []string{"route", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "wxcourier_http_seconds", Help: "Duration of requests to the gateway, from their headers to the end of the answer.",
			Buckets: prometheus.ExponentialBuckets(0.001, 3, 11),
		}, []string{"route"}),
		receipts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "wxcourier_receipts_total", Help: "Receipts of accepted messages, by app, task type and receipt; 0 from the start for apps with a callback.",
		}, []string{"app", "type", "receipt"}),
		dropped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "wxcourier_receipts_dropped_total", Help: "Receipts that were joined to no message, by app and reason; 0 from the start for apps with a callback.",
		}, []string{"app", "reason"}),
		expected: expectedReceipts{apps: apps, desc: prometheus.NewDesc(
			"wxcourier_receipts_expected", "1 while the app has a callback, so that accepted messages get a receipt.", []string{"app"}, nil,
		)},
	}
}

// register registers the metrics, and that of the build unless a worker in this process did.
func (m *metrics) register(reg prometheus.Registerer) error {
	var twice prometheus.AlreadyRegisteredError
	if err := reg.Register(buildinfo.Metric()); err != nil && !errors.As(err, &twice) {
		return fmt.Errorf("register the metrics: %w", err)
	}
	for _, c := range []prometheus.Collector{m.requests, m.seconds, m.receipts, m.dropped, m.expected} {
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

// expectReceipts exports the counters of apps with a callback before their first receipt, so that an
// alert can tell a callback that never worked from an app without one.
func (m *metrics) expectReceipts(apps []api.App) {
	for _, app := range apps {
		if !app.Receipts {
			continue
		}
		for _, typ := range tasks.TypesWithReceipts() {
			for _, receipt := range tasks.DeliveryReceipts() {
				m.receipts.WithLabelValues(app.ID, typ, string(receipt))
			}
		}
		for _, why := range pushes.DropReasons() {
			m.dropped.WithLabelValues(app.ID, string(why))
		}
	}
}

// expectedReceipts reports the apps whose messages get receipts now. The counters of an app that had a
// callback stay, so that they cannot tell.
type expectedReceipts struct {
	apps func() []api.App
	desc *prometheus.Desc
}

// Describe implements [prometheus.Collector].
func (e expectedReceipts) Describe(descs chan<- *prometheus.Desc) { descs <- e.desc }

// Collect implements [prometheus.Collector].
func (e expectedReceipts) Collect(all chan<- prometheus.Metric) {
	for _, app := range e.apps() {
		if app.Receipts {
			all <- prometheus.MustNewConstMetric(e.desc, prometheus.GaugeValue, 1, app.ID)
		}
	}
}

// CountReceipt counts the receipt of an accepted message, in metrics and over time. sent is when the
// message was accepted.
func (g *Gateway) CountReceipt(r tasks.Result, sent time.Time) {
	g.metrics.receipts.WithLabelValues(r.App, r.Type, string(r.Receipt)).Inc()
	g.series.AddReceipt(r.App, r.Type, string(r.Receipt), sent)
}

// CountDroppedReceipt counts a receipt that was joined to no message.
func (g *Gateway) CountDroppedReceipt(app string, why pushes.Dropped) {
	g.metrics.dropped.WithLabelValues(app, string(why)).Inc()
}
