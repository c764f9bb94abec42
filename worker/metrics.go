package worker

import (
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/wxcourier/wxcourier/internal/buildinfo"
	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/wechat"
)

// metrics are the replica's Prometheus metrics. All labels are from closed sets (apps,
// types, endpoints, outcomes, classes), never an openid or a message.
type metrics struct {
	calls      *prometheus.CounterVec
	callTime   *prometheus.HistogramVec
	outcomes   *prometheus.CounterVec
	delivery   *prometheus.HistogramVec
	permitWait *prometheus.HistogramVec
	build      *prometheus.GaugeVec
	state      *stateCollector
}

func newMetrics(r *Replica) *metrics {
	m := &metrics{
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "wxcourier_calls_total", Help: "Calls to WeChat, by the class of the answer.",
		}, []string{"app", "api", "class"}),
		callTime: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "wxcourier_call_seconds", Help: "Length of a call to WeChat.",
			Buckets: prometheus.ExponentialBuckets(0.005, 2, 12),
		}, []string{"api"}),
		outcomes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "wxcourier_outcomes_total", Help: "Outcomes recorded.",
		}, []string{"app", "type", "outcome"}),
		delivery: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "wxcourier_delivery_seconds", Help: "From enqueue to outcome.",
			Buckets: prometheus.ExponentialBuckets(0.01, 3, 14),
		}, []string{"type"}),
		permitWait: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "wxcourier_permit_wait_seconds", Help: "Wait of a lane for its next permit.",
			Buckets: prometheus.ExponentialBuckets(0.001, 4, 10),
		}, []string{"api"}),
		build: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "wxcourier_build_info", Help: "Always 1; the labels are the versions.",
		}, []string{"version", "goversion"}),
		state: newStateCollector(r),
	}
	m.build.WithLabelValues(buildinfo.Version(), runtime.Version()).Set(1)
	return m
}

func (m *metrics) register(reg prometheus.Registerer) error {
	for _, c := range []prometheus.Collector{
		m.calls, m.callTime, m.outcomes, m.delivery, m.permitWait, m.build, m.state,
	} {
		if err := reg.Register(c); err != nil {
			return fmt.Errorf("register the metrics: %w", err)
		}
	}
	return nil
}

// countNoToken counts a call that was not made for lack of a token.
func (m *metrics) countNoToken(app, api string) {
	m.calls.WithLabelValues(app, api, labelNoToken).Inc()
}

func (m *metrics) countCall(app, api string, err error, took time.Duration) {
	m.calls.WithLabelValues(app, api, classOf(err)).Inc()
	m.callTime.WithLabelValues(api).Observe(took.Seconds())
}

// labelNoToken is the class of a call that got no token.
const labelNoToken = "no_token"

// classOf returns the label `class` of a call: the class of WeChat's answer, or why there was
// no answer.
func classOf(err error) string {
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

func (m *metrics) countOutcome(result tasks.Result) {
	m.outcomes.WithLabelValues(result.App, result.Type, string(result.Outcome)).Inc()
	if !result.EnqueuedAt.IsZero() && result.Generation == 0 { // the time of a redrive includes the wait for an operator
		m.delivery.WithLabelValues(result.Type).Observe(result.FinishedAt.Sub(result.EnqueuedAt).Seconds())
	}
}

func (m *metrics) permitWaitObserver(typ string) func(time.Duration) {
	spec, _ := tasks.Lookup(typ)
	observer := m.permitWait.WithLabelValues(spec.Path)
	return func(d time.Duration) { observer.Observe(d.Seconds()) }
}

// RegisterTokenRefreshes registers the counter of token refreshes, and returns the hook for
// wechat.WithOnRefresh. It is no method of Replica, since the tokens are made first.
func RegisterTokenRefreshes(reg prometheus.Registerer) (hook func(app, result string), err error) {
	refreshes := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "wxcourier_token_refreshes_total", Help: "Token refreshes, by result: ok, kept, config or error.",
	}, []string{"app", "result"})
	if err := reg.Register(refreshes); err != nil {
		return nil, fmt.Errorf("register the metrics: %w", err)
	}
	return func(app, result string) { refreshes.WithLabelValues(app, result).Inc() }, nil
}
