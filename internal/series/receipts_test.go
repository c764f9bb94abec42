package series

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/redistest"
)

const (
	subscribe = "send:subscribe"
	template  = "send:template"
)

func readReceipts(t *testing.T, rdb redis.UniversalClient, q Query) string {
	t.Helper()
	points, err := ReadReceipts(t.Context(), rdb, q, []string{subscribe, template})
	if err != nil || points == nil {
		t.Fatal(points, err)
	}
	lines := make([]string, len(points))
	for i, p := range points {
		lines[i] = fmt.Sprint(p.App[17:], " ", p.At.Format(time.TimeOnly), " ", p.Type, ": ", p.Accepted, " = ", p.Delivered, "+", p.Blocked, "+", p.Failed, "+", p.Without)
	}
	return strings.Join(lines, "\n")
}

// TestReceiptsCountWhenSent: a receipt counts in the step of its message, however late it comes, and
// never as an outcome.
func TestReceiptsCountWhenSent(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		ctx := t.Context()
		r, _ := newTestRecorder(rdb)
		ten := yesterday("10:00:00")
		r.at(ten.Add(30 * time.Second))
		for range 5 {
			r.Add(app1, subscribe, "accepted", 0)
		}
		r.Add(app1, subscribe, "refused", 43101)
		r.Add(app1, "scheme:generate", "accepted", 0)
		r.Add(app2, template, "accepted", 0)
		r.AddReceipt(app1, subscribe, "delivered", ten.Add(20*time.Second)) // in the same write as the outcomes
		r.Flush(ctx)
		r.at(ten.Add(22 * time.Hour))
		r.AddReceipt(app1, subscribe, "delivered", ten.Add(20*time.Second))
		r.AddReceipt(app1, subscribe, "blocked", ten.Add(21*time.Second))
		r.AddReceipt(app1, subscribe, "failed", ten.Add(22*time.Second))
		r.AddReceipt(app1, template, "delivered", ten.Add(90*time.Minute)) // of a replica that was killed before it counted the message
		r.AddReceipt(app1, subscribe, "delivered", ten.Add(-40*24*time.Hour))
		r.AddReceipt(app1, subscribe, "delivered", time.Time{})
		r.Flush(ctx)
		apps := []string{app1, app2}
		q := Query{Apps: apps, From: ten.Add(-time.Hour), To: ten.Add(24 * time.Hour), Step: Hour}
		if got, want := readReceipts(t, rdb, q), `1 10:00:00 send:subscribe: 5 = 2+1+1+1
2 10:00:00 send:template: 1 = 0+0+0+1
1 11:00:00 send:template: 1 = 1+0+0+0`; got != want {
			t.Errorf("by hour:\n%s", got)
		}
		q = Query{Apps: apps, From: ten, To: ten.Add(time.Minute), Step: Minute}
		if got, want := readReceipts(t, rdb, q), `1 10:00:00 send:subscribe: 5 = 2+1+1+1
2 10:00:00 send:template: 1 = 0+0+0+1`; got != want {
			t.Errorf("by minute:\n%s", got)
		}
		if got := read(t, rdb, Query{Apps: apps, From: ten, To: ten.Add(3 * time.Hour), Step: Hour}); strings.Contains(got, "delivered") || strings.Count(got, "\n") != 3 {
			t.Errorf("a receipt counts as an outcome:\n%s", got)
		}
		for _, key := range []string{receiptsKey(app1, Minute, ten), receiptsKey(app1, Hour, ten)} {
			if left := rdb.PTTL(ctx, key).Val(); left < 47*time.Hour {
				t.Errorf("%s expires in %v", key, left)
			}
		}
		if keys := rdb.Keys(ctx, "*series:r*").Val(); len(keys) != 3 {
			t.Errorf("keys: %v", keys)
		}
	})
	var none *Recorder
	none.AddReceipt(app1, subscribe, "delivered", time.Now())
}
