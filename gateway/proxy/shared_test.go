package proxy_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wxcourier/wxcourier/configs"
	engine "github.com/wxcourier/wxcourier/internal/app"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/sandbox"
	"github.com/wxcourier/wxcourier/tasks"
)

// TestCallsAndLanesKeepALimitTogether: four gateways' callers and two workers at once use a limit,
// and never exceed it.
func TestCallsAndLanesKeepALimitTogether(t *testing.T) {
	minute, second := 400, 100
	if n, err := strconv.Atoi(os.Getenv("WXCOURIER_SHARED_SECONDS")); err == nil { // for a measurement
		t.Run("second", func(t *testing.T) { shareLimit(t, ratelimit.Limit{PerSecond: second}, second*n) })
		return
	}
	t.Run("second", func(t *testing.T) { shareLimit(t, ratelimit.Limit{PerSecond: second}, second) })
	t.Run("minute", func(t *testing.T) { shareLimit(t, ratelimit.Limit{PerMinute: minute}, minute*95/100*95/100) })
}

// shareLimit makes calls and tasks until WeChat has got a number of calls.
func shareLimit(t *testing.T, limit ratelimit.Limit, calls int) {
	server := redistest.Start(t)
	s := newShop(t, server.Client(t))
	s.wx = sandbox.New(sandbox.Options{
		Apps:   map[string]string{app: secret},
		Limits: map[string]sandbox.Limit{schemePath: {PerSecond: limit.PerSecond, PerMinute: limit.PerMinute}},
	})
	s.seen.next = s.wx
	s.limits[tasks.TypeScheme], s.wait = limit, time.Minute
	if margin, err := strconv.ParseFloat(os.Getenv("WXCOURIER_SHARED_MARGIN"), 64); err == nil {
		s.pace.Margin = margin
	}
	startWorkers(t, s, server.Addr(), 2)
	client := tasks.NewClient(s.rdb)
	var envelopes []tasks.Envelope
	for i := range 2 * calls {
		envelopes = append(envelopes, tasks.Envelope{Type: tasks.TypeScheme, App: app, ID: fmt.Sprintf("t-%d", i), Body: []byte(schemeBody)})
	}
	for _, r := range client.SubmitMany(t.Context(), envelopes) {
		if r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	got := func() int { return s.wx.Count(sandbox.Filter{Path: schemePath}) }
	redistest.Until(t, 30*time.Second, "the workers call", func() bool { return got() > 0 })
	began, before := time.Now(), got()
	var direct atomic.Int64
	stop := startCallers(t, s, 4, &direct)
	redistest.Until(t, 2*time.Minute, "the limit is used", func() bool { return got() >= calls })
	took, made := time.Since(began), got()-before
	stop()
	if n := s.wx.Count(sandbox.Filter{Path: schemePath, ErrCodes: []int{44990, 45009, 45011}}); n != 0 {
		t.Errorf("%d calls were over the limit", n)
	}
	if direct.Load() == 0 || int(direct.Load()) == made {
		t.Errorf("%d of %d calls were clients'", direct.Load(), made)
	}
	t.Logf("%d calls in %v, %d of them clients'; the busiest second and minute: %+v", made, took, direct.Load(), s.wx.Peak(app, schemePath))
	if limit.PerSecond > 0 {
		allowed := float64(limit.PerSecond) * (1 - s.pace.Margin)
		t.Logf("used: %.1f %% of the %.0f calls a second that the margin leaves", 100*float64(made)/took.Seconds()/allowed, allowed)
	}
}

// startCallers starts gateways with several clients each, which call until stop. Answers to which no
// permit was found are not counted.
func startCallers(t *testing.T, s *shop, n int, answered *atomic.Int64) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for range n {
		g := s.start()
		target := g.url + schemePath + "?" + url.Values{"access_token": {g.ticket()}}.Encode()
		for range 8 {
			all.Go(func() {
				for ctx.Err() == nil {
					r, err := http.NewRequestWithContext(ctx, http.MethodPost, target, strings.NewReader(schemeBody))
					if err != nil {
						t.Error(err)
						return
					}
					resp, err := http.DefaultClient.Do(r)
					if err != nil {
						return // the end
					}
					if _ = resp.Body.Close(); resp.StatusCode == http.StatusOK {
						answered.Add(1)
					}
				}
			})
		}
	}
	stop = sync.OnceFunc(func() { cancel(); all.Wait() })
	t.Cleanup(stop)
	return stop
}

// startWorkers starts replicas on the shop's Redis and WeChat.
func startWorkers(t *testing.T, s *shop, redisAddr string, n int) {
	t.Helper()
	cfg := configs.Default()
	cfg.Redis.Addrs = []string{redisAddr}
	cfg.WeChat.BaseURL, cfg.Pace = s.url, s.pace
	cfg.Apps = []configs.App{{ID: app, Secret: secret, Limits: s.limits}}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for range n {
		parts, err := engine.New(cfg, slog.New(slog.DiscardHandler), nil)
		if err != nil {
			t.Fatal(err)
		}
		replica, err := parts.Replica(slices.Clone(engine.WorkerApps(cfg.Apps)), parts.Registry)
		if err != nil {
			t.Fatal(err)
		}
		running.Go(func() {
			defer parts.Close() //nolint:contextcheck // the clean-up does not end with ctx
			if err := replica.Run(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(func() { cancel(); running.Wait() })
}
