package worker

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Handler returns the HTTP handler for an orchestrator and Prometheus:
//
//	/healthz  200 while the process lives
//	/readyz   200 while the replica takes work and Redis answers; 503 otherwise
//	/metrics  the metrics of the gatherer
func (r *Replica) Handler(g prometheus.Gatherer) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, req *http.Request) {
		if err := r.ready(req.Context()); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		_, _ = fmt.Fprintln(w, "ready")
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(g, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError}))
	return mux
}

func (r *Replica) ready(ctx context.Context) error {
	if r.draining.Load() {
		return errors.New("shutting down")
	}
	if !r.fleet.polled.Load() {
		return errors.New("starting: the queues have not been read yet")
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if err := r.rdb.Ping(ctx).Err(); err != nil {
		return errors.New("Redis does not answer") //nolint:staticcheck // Redis is a name
	}
	return nil
}
