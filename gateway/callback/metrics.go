package callback

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// The values of the label result of wxcourier_callback_requests_total.
const (
	resultVerified  = "verified"  // WeChat checked the URL
	resultStored    = "stored"    // for the handlers
	resultDuplicate = "duplicate" // a repetition
	resultForwarded = "forwarded" // to the user's own service
	resultIgnored   = "ignored"   // neither handled nor forwarded
	resultUnknown   = "unknown_app"
	resultSignature = "bad_signature"
	resultAge       = "bad_timestamp"
	resultPlain     = "not_encrypted"
	resultDecrypt   = "bad_encryption"
	resultApp       = "foreign_app"
	resultFormat    = "malformed"
	resultLarge     = "too_large"
	resultClient    = "client_gone" // the body did not come whole, or in time
	resultBusy      = "busy"        // too many requests at a time
	resultRedis     = "not_stored"  // Redis did not answer in time
	resultPanic     = "panic"
)

// The values of the label result of wxcourier_callback_handled_total.
const (
	handledOK      = "ok"
	handledFailed  = "failed"  // by a handler; they come again
	handledDropped = "dropped" // no handler took it for too long, or it cannot be read
	handledCut     = "cut"     // the stream was too long
)

// otherApp is the label of requests for apps that are not configured.
const otherApp = "other"

type metrics struct {
	requests, forwards, handled *prometheus.CounterVec
	seconds                     prometheus.Histogram
	backlog                     *prometheus.GaugeVec
}

func newMetrics() *metrics {
	counter := func(name, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{"app", "result"})
	}
	return &metrics{
		requests: counter("wxcourier_callback_requests_total", "WeChat's requests to the callback URLs, by what became of them."),
		forwards: counter("wxcourier_callback_forwards_total", "Pushes forwarded to the user's own service, by its answer."),
		handled:  counter("wxcourier_callback_handled_total", "Stored pushes, by what became of them."),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "wxcourier_callback_seconds", Help: "Time until WeChat's requests were answered.",
			Buckets: []float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 4, 5},
		}),
		backlog: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "wxcourier_callback_backlog", Help: "Stored pushes that are not handled yet.",
		}, []string{"app"}),
	}
}

func (m *metrics) register(r prometheus.Registerer) error {
	for _, c := range []prometheus.Collector{m.requests, m.forwards, m.handled, m.seconds, m.backlog} {
		if err := r.Register(c); err != nil {
			return fmt.Errorf("callback: register the metrics: %w", err)
		}
	}
	return nil
}

func (m *metrics) request(app, result string, took time.Duration) {
	m.requests.WithLabelValues(app, result).Inc()
	m.seconds.Observe(took.Seconds())
}
