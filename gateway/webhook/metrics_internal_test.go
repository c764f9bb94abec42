package webhook

import (
	"net/http"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/wxcourier/wxcourier/internal/redistest"
)

// The metrics show lag and calls, and nothing of an endpoint that has left the configuration.
func TestMetrics(t *testing.T) {
	_, rdb := redistest.Mini(t)
	e, l := newEndpoint(t), newLedger(t, rdb, 0)
	cfg := e.config("crm")
	started(t, rdb, newSender(t, rdb, cfg))()
	e.answers(func(message, http.ResponseWriter) int { return http.StatusServiceUnavailable })
	settle(t, l, app, "a", 5, nil)
	registry := prometheus.NewRegistry()
	s := newSender(t, rdb, cfg)
	s.deps.Registry = registry
	if err := s.metrics.register(registry); err != nil {
		t.Fatal(err)
	}
	if s.metrics.register(registry) == nil {
		t.Error("the metrics were registered twice")
	}
	run(t, s)
	redistest.Until(t, long, "the lag and the failed calls are in the metrics", func() bool {
		return testutil.ToFloat64(s.metrics.lag.WithLabelValues("crm", app)) == 5 && testutil.ToFloat64(s.metrics.lagSeconds.WithLabelValues("crm", app)) > 0 &&
			testutil.ToFloat64(s.metrics.deliveries.WithLabelValues("crm", string(ClassServer))) > 0
	})
	if n := testutil.ToFloat64(s.metrics.disabled.WithLabelValues("crm")); n != 0 {
		t.Errorf("disabled: %v", n)
	}
	if problems, err := testutil.GatherAndLint(registry); err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
	if err := s.SetEndpoints(nil); err != nil {
		t.Fatal(err)
	}
	redistest.Until(t, long, "the gauges of the endpoint are gone", func() bool {
		return testutil.CollectAndCount(s.metrics.lag)+testutil.CollectAndCount(s.metrics.disabled) == 0
	})
}
