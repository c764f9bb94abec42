package ratelimit

import (
	"testing"
	"time"

	"golang.org/x/time/rate"

	"github.com/wxcourier/wxcourier/internal/redistest"
)

// TestReusedPermitSkipsCatchUpLimit: tasks that are not sent, such as those of a canceled
// batch, release the same permit one after the other. It passes the catch-up limiter once.
func TestReusedPermitSkipsCatchUpLimit(t *testing.T) {
	_, rdb := redistest.Mini(t)
	l := NewLimiter(rdb, DefaultConfig(), nil)
	q := newPool(l, "wx0123456789abcdef", "send:subscribe")
	now := time.Now()
	g := &grant{terms: []terms{{spacing: 1}}, maxLateness: time.Hour}
	for range 2 {
		q.stock = append(q.stock, &Permit{At: now, grant: g, pool: q})
	}
	q.idle, q.gap, q.catchUpLimiter, q.refill = false, time.Hour, rate.NewLimiter(rate.Every(time.Hour), 1), &refill{}
	p, _ := q.takeDue(t.Context(), 0)
	for range 100 {
		if p == nil {
			t.Fatal("the released permit was not handed out again")
		}
		if !q.release(p, now) {
			t.Fatal("release did not take the permit")
		}
		p, _ = q.takeDue(t.Context(), 0)
	}
	if other, _ := q.takeDue(t.Context(), 0); other != nil {
		t.Error("a second permit was handed out faster than the catch-up limit")
	}
}
