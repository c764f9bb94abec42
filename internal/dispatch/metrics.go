package dispatch

import (
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/wxcourier/wxcourier/internal/consent"
	"github.com/wxcourier/wxcourier/wechat"
)

// Metrics are the Prometheus metrics of the calls. All labels are from closed sets (apps,
// endpoints, classes), never an openid or a message.
type Metrics struct {
	calls      *prometheus.CounterVec
	callTime   *prometheus.HistogramVec
	permitWait *prometheus.HistogramVec
	consents   *prometheus.CounterVec
}

func newMetrics() *Metrics {
	return &Metrics{
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "wxcourier_calls_total", Help: "Calls to WeChat, by the class of the answer.",
		}, []string{"app", "api", "class"}),
		callTime: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "wxcourier_call_seconds", Help: "Length of a call to WeChat.",
			Buckets: prometheus.ExponentialBuckets(0.005, 2, 12),
		}, []string{"api"}),
		permitWait: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "wxcourier_permit_wait_seconds", Help: "Wait of a lane for its next permit.",
			Buckets: prometheus.ExponentialBuckets(0.001, 4, 10),
		}, []string{"api"}),
		consents: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "wxcourier_consent_checks_total", Help: "Checks of the consent of receivers of subscribe messages, and how calls turned out for it, by check.",
		}, []string{"app", "type", "check"}),
	}
}

// Register registers the metrics with a registry. Where it has them already, from another
// Dispatcher of this process, both count in the same. Call it before the first call.
func (m *Metrics) Register(registry prometheus.Registerer) error {
	return errors.Join(
		adopt(registry, &m.calls), adopt(registry, &m.callTime), adopt(registry, &m.permitWait), adopt(registry, &m.consents),
	)
}

// Outcomes returns the counter of outcomes of a registry, by app, type and outcome. The workers and the
// gateway of a process share it. Without a registry it is a counter that nothing shows.
func Outcomes(registry prometheus.Registerer) (*prometheus.CounterVec, error) {
	outcomes := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "wxcourier_outcomes_total", Help: "Outcomes recorded.",
	}, []string{"app", "type", "outcome"})
	if registry == nil {
		return outcomes, nil
	}
	if err := adopt(registry, &outcomes); err != nil {
		return nil, fmt.Errorf("register the metrics: %w", err)
	}
	return outcomes, nil
}

// adopt registers a collector, or replaces it by the one that the registry has already.
func adopt[C prometheus.Collector](registry prometheus.Registerer, collector *C) error {
	err := registry.Register(*collector)
	var already prometheus.AlreadyRegisteredError
	if !errors.As(err, &already) {
		return err
	}
	existing, ok := already.ExistingCollector.(C)
	if !ok {
		return err
	}
	*collector = existing
	return nil
}

// CountConsent counts a check of the consent of a receiver.
func (m *Metrics) CountConsent(app, typ string, check consent.Check) {
	m.consents.WithLabelValues(app, typ, string(check)).Inc()
}

// countNoToken counts a call that was not made for lack of a token.
func (m *Metrics) countNoToken(c *Call) {
	m.calls.WithLabelValues(c.App, c.api(), labelNoToken).Inc()
}

func (m *Metrics) countCall(c *Call, err error, took time.Duration) {
	m.calls.WithLabelValues(c.App, c.api(), ClassOf(err)).Inc()
	m.callTime.WithLabelValues(c.api()).Observe(took.Seconds())
}

func (m *Metrics) permitWaitObserver(path wechat.Endpoint) func(time.Duration) {
	observer := m.permitWait.WithLabelValues(string(path))
	return func(d time.Duration) { observer.Observe(d.Seconds()) }
}

// labelNoToken is the class of a call that got no token.
const labelNoToken = "no_token"

// ClassOf returns the label `class` of a call: the class of WeChat's answer, or why there was
// no answer.
func ClassOf(err error) string {
	var (
		api       *wechat.APIError
		token     *wechat.TokenError
		transport *wechat.TransportError
	)
	switch {
	case err == nil:
		return wechat.ClassOK.String()
	case errors.As(err, &token):
		return labelNoToken
	case errors.As(err, &api):
		return api.Class().String()
	case errors.As(err, &transport) && !transport.Written:
		return "unreachable"
	default:
		return "no_answer"
	}
}
