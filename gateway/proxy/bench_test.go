package proxy_test

import (
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/sandbox"
)

// BenchmarkAdded measures what the gateway adds to a call: calls of WeChat by themselves and through
// the gateway take turns. It reports the medians.
func BenchmarkAdded(b *testing.B) {
	s := newShop(b, redistest.Start(b).Client(b))
	s.wx = sandbox.New(sandbox.Options{NoLimits: true})
	s.seen.next, s.seen.forget = s.wx, true
	g := s.start()
	direct := g.tokenOf()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 4}}
	defer client.CloseIdleConnections()
	targets := []string{
		s.url + codePath + "?" + url.Values{"access_token": {direct}}.Encode(),
		g.url + codePath + "?" + url.Values{"access_token": {g.ticket()}}.Encode(),
	}
	took := make([][]time.Duration, len(targets))
	for b.Loop() {
		for i, target := range targets {
			began := time.Now()
			r, err := http.NewRequestWithContext(b.Context(), http.MethodPost, target, strings.NewReader(`{"scene":"a=1"}`))
			if err != nil {
				b.Fatal(err)
			}
			r.Header.Set("Content-Type", "application/json")
			resp, err := client.Do(r)
			if err != nil {
				b.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
			if took[i] = append(took[i], time.Since(began)); resp.Header.Get("Content-Type") != "image/jpeg" {
				b.Fatal(resp.Header)
			}
		}
	}
	var medians []float64
	for _, t := range took {
		slices.Sort(t)
		medians = append(medians, float64(t[len(t)/2].Microseconds()))
	}
	b.ReportMetric(medians[0], "direct-µs")
	b.ReportMetric(medians[1], "gateway-µs")
	b.ReportMetric(medians[1]-medians[0], "added-µs")
}
