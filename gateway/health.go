package gateway

import (
	"context"
	"fmt"
	"net/http"
	"time"
)

// readyTimeout bounds the ping of Redis: orchestrators wait a second or a few.
const readyTimeout = 2 * time.Second

// serveHealth answers 200 while the process lives.
func (g *Gateway) serveHealth(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprintln(w, "ok") }

// serveReadiness answers 200 while Redis answers and no shutdown has begun.
func (g *Gateway) serveReadiness(w http.ResponseWriter, r *http.Request) {
	if g.draining.Load() {
		http.Error(w, "shutting down", http.StatusServiceUnavailable)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), readyTimeout)
	defer cancel()
	if err := g.deps.Redis.Ping(ctx).Err(); err != nil {
		http.Error(w, "Redis does not answer", http.StatusServiceUnavailable)
		return
	}
	_, _ = fmt.Fprintln(w, "ready")
}
