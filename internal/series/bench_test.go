package series

import (
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/redistest"
)

// kinds are what an app of a day's traffic has in a minute.
func kinds() []counter {
	return []counter{
		{typ: "send:subscribe", outcome: "accepted"},
		{typ: "send:subscribe", outcome: "refused", errcode: 43101},
		{typ: "send:subscribe", outcome: "rejected", errcode: 47003},
		{typ: "send:template", outcome: "accepted"},
		{typ: "send:template", outcome: "refused", errcode: 43004},
		{typ: "send:custom", outcome: "failed", errcode: -1},
	}
}

// info returns a number of INFO.
func info(b *testing.B, rdb redis.UniversalClient, section, field string) float64 {
	b.Helper()
	for line := range strings.Lines(rdb.Info(b.Context(), section).Val()) {
		if text, ok := strings.CutPrefix(strings.TrimSpace(line), field+":"); ok {
			n, err := strconv.ParseFloat(text, 64)
			if err != nil {
				b.Fatal(err)
			}
			return n
		}
	}
	b.Fatal("INFO has no " + field)
	return 0
}

// BenchmarkMemory fills the hashes of one day of apps with six kinds of outcomes a minute, and reports
// what Redis needs for an app, with the hours of the day.
func BenchmarkMemory(b *testing.B) {
	const apps = 20
	rdb := redistest.Start(b).Client(b)
	ctx := b.Context()
	r := NewRecorder(rdb, slog.New(slog.DiscardHandler))
	r.Add("wxffffffffffffffff", "t", "o", 0)
	r.Flush(ctx) // the script
	before := info(b, rdb, "memory", "used_memory")
	start := yesterday("00:00:00")
	for minute := range 24 * 60 {
		r.at(start.Add(time.Duration(minute) * time.Minute))
		for app := range apps {
			for _, k := range kinds() {
				for range 1000 {
					r.Add(fmt.Sprintf("wx%016x", app), k.typ, k.outcome, k.errcode)
				}
			}
		}
		r.Flush(ctx)
	}
	b.ReportMetric((info(b, rdb, "memory", "used_memory")-before)/apps, "B/app")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkFlush is a second of apps with six kinds of outcomes each, and what it costs Redis.
func BenchmarkFlush(b *testing.B) {
	for _, apps := range []int{1, 200} {
		b.Run(fmt.Sprintf("apps=%d", apps), func(b *testing.B) {
			rdb := redistest.Start(b).Client(b)
			ctx := b.Context()
			r := NewRecorder(rdb, slog.New(slog.DiscardHandler))
			r.at(yesterday("12:07:00"))
			cpu := func() float64 {
				return info(b, rdb, "cpu", "used_cpu_user") + info(b, rdb, "cpu", "used_cpu_sys")
			}
			before := cpu()
			for b.Loop() {
				for app := range apps {
					for _, k := range kinds() {
						r.Add(fmt.Sprintf("wx%016x", app), k.typ, k.outcome, k.errcode)
					}
				}
				r.Flush(ctx)
			}
			b.ReportMetric((cpu()-before)/float64(b.N)/float64(apps)*1e6, "redis-µs/app")
		})
	}
}

// BenchmarkRead reads what a page shows, of 200 apps with six kinds a step.
func BenchmarkRead(b *testing.B) {
	rdb := redistest.Start(b).Client(b)
	ctx := b.Context()
	var apps []string
	for app := range 200 {
		apps = append(apps, fmt.Sprintf("wx%016x", app))
	}
	r := NewRecorder(rdb, slog.New(slog.DiscardHandler))
	now := time.Now().Truncate(time.Hour)
	fill := func(at time.Time) {
		r.at(at)
		for _, app := range apps {
			for _, k := range kinds() {
				r.Add(app, k.typ, k.outcome, k.errcode)
			}
		}
		r.Flush(ctx)
	}
	for minute := range 60 {
		fill(now.Add(-time.Duration(minute) * time.Minute))
	}
	for hour := range 35 * 24 {
		fill(now.Add(-time.Duration(hour) * time.Hour))
	}
	for name, q := range map[string]Query{
		"hour by minute":      {Apps: apps, From: now.Add(-time.Hour), To: now, Step: Minute},
		"day by hour":         {Apps: apps, From: now.Add(-24 * time.Hour), To: now, Step: Hour},
		"35 days by hour":     {Apps: apps, From: now.Add(-35 * 24 * time.Hour), To: now, Step: Hour},
		"1 app 48h by minute": {Apps: apps[:1], From: now.Add(-48 * time.Hour), To: now, Step: Minute},
	} {
		b.Run(name, func(b *testing.B) {
			var points []Point
			for b.Loop() {
				var err error
				if points, err = Read(ctx, rdb, q); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(len(points)), "points")
		})
	}
}
