package gateway

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/wxcourier/wxcourier/internal/apikey"
)

// BenchmarkLayers is the cost of a request's way to its handler and back: metrics, limits and the key.
func BenchmarkLayers(b *testing.B) {
	path := filepath.Join(b.TempDir(), "keys")
	key, err := apikey.Add(path, apikey.Key{ID: "a", Scopes: apikey.Scopes(), Rate: 1e6})
	if err != nil {
		b.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	g := &Gateway{metrics: newMetrics(nil), mux: http.NewServeMux(), deps: Deps{Log: log, Keys: apikey.NewSet(path, log)}}
	if err := g.deps.Keys.Load(); err != nil {
		b.Fatal(err)
	}
	next := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusAccepted) })
	g.handle("POST /v1/tasks", g.authenticated(next))
	for name, handler := range map[string]http.Handler{"none": next, "all": g.observed(limited(g.mux))} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r := httptest.NewRequestWithContext(b.Context(), http.MethodPost, "/v1/tasks", strings.NewReader("x"))
				r.Header.Set("Authorization", "Bearer "+key)
				w := httptest.NewRecorder()
				handler.ServeHTTP(w, r)
				if w.Code != http.StatusAccepted {
					b.Fatal(w.Code, w.Body)
				}
			}
		})
	}
}
