package buildinfo

import (
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
)

// Metric returns the metric of the version. A process registers it once.
func Metric() prometheus.Collector {
	build := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "wxcourier_build_info", Help: "Always 1; the labels are the versions.",
	}, []string{"version", "goversion"})
	build.WithLabelValues(Version(), runtime.Version()).Set(1)
	return build
}
