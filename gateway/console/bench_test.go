package console

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/apikey"
	"github.com/wxcourier/wxcourier/internal/hold"
	"github.com/wxcourier/wxcourier/internal/inspect"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/internal/series"
	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/wechat"
)

// BenchmarkOverview reads and writes the overview of 200 apps with 600 busy lanes, without what other
// viewers have read.
func BenchmarkOverview(b *testing.B) {
	rdb := redistest.Start(b).Client(b)
	log := slog.New(slog.DiscardHandler)
	limiter, holds := ratelimit.NewLimiter(rdb, ratelimit.DefaultConfig(), nil), hold.NewStore(rdb)
	defer func() { _ = limiter.Close(context.WithoutCancel(b.Context())) }()
	tokens := wechat.NewTokens(wechat.DefaultConfig(), rdb, func(string) (wechat.Credential, bool) { return wechat.Credential{}, false })
	defer tokens.Close()
	var apps []App
	recorder := series.NewRecorder(rdb, log)
	types := []string{tasks.TypeSubscribe, tasks.TypeTemplate, tasks.TypeScheme}
	_, err := rdb.Pipelined(b.Context(), func(p redis.Pipeliner) error {
		for i := range 200 {
			app := fmt.Sprintf("wx%016x", i)
			apps = append(apps, App{ID: app})
			for _, typ := range types {
				queue := tasks.QueueName(app, typ, tasks.Urgent)
				p.SAdd(b.Context(), "asynq:queues", queue)
				p.RPush(b.Context(), "asynq:{"+queue+"}:pending", "a", "b")
				for code := range 8 {
					recorder.Add(app, typ, string(tasks.OutcomeRefused), 43100+code)
				}
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	recorder.Flush(b.Context())
	for _, app := range apps {
		for _, typ := range types {
			if _, err := limiter.Try(b.Context(), app.ID, typ); err != nil {
				b.Fatal(err)
			}
		}
	}
	c, err := New(Deps{
		Redis: rdb, Tasks: tasks.NewClient(rdb), Inspector: tasks.NewInspector(rdb), Limiter: limiter, Holds: holds, Tokens: tokens,
		Reader: inspect.NewReader(rdb, limiter, holds), Apps: func() []App { return apps }, Keys: apikey.NewSet("", log), Log: log,
	})
	if err != nil {
		b.Fatal(err)
	}
	now := time.Now()
	c.cache.now = func() time.Time { return now }
	count := redistest.Count(rdb)
	commands, trips := count.Commands(), count.Trips()
	for b.Loop() {
		now = now.Add(time.Minute)
		w := httptest.NewRecorder()
		c.ServeHTTP(w, httptest.NewRequestWithContext(b.Context(), http.MethodGet, "/", nil))
		if w.Code != http.StatusOK {
			b.Fatalf("status %d\n%s", w.Code, w.Body)
		}
		b.ReportMetric(float64(w.Body.Len()), "bytes")
	}
	b.ReportMetric(float64(count.Commands()-commands)/float64(b.N), "commands/op")
	b.ReportMetric(float64(count.Trips()-trips)/float64(b.N), "trips/op")
}
