package dispatch

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// TestMetricsOfTwoDispatchers: a worker and a gateway in one process count in the same metrics.
func TestMetricsOfTwoDispatchers(t *testing.T) {
	registry := prometheus.NewRegistry()
	for range 2 {
		m := newMetrics()
		if err := m.Register(registry); err != nil {
			t.Fatal(err)
		}
		m.countCall(&Call{App: "wx0123456789abcdef", Endpoint: "/wxa/personal", API: "other"}, nil, 0)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "wxcourier_calls_total" {
			continue
		}
		if m := f.GetMetric(); len(m) != 1 || m[0].GetCounter().GetValue() != 2 {
			t.Errorf("%v", m)
		}
		return
	}
	t.Error("no calls")
}
