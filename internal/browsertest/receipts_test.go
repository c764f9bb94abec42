package browsertest

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/series"
)

// receiptFaults are the openids of a message for each receipt, by the name of the receipt: their first
// part makes the stand-in push it, or nothing.
func receiptFaults() map[string]string {
	return map[string]string{
		"delivered": "oPerson", "blocked": "userblock-oPerson", "failed": "systemfailed-oPerson", "none": "noreceipt-oPerson",
	}
}

// tellReceipts sends a message for each receipt in a batch, and counts messages of earlier hours.
func tellReceipts(t *testing.T, s *Site) {
	t.Helper()
	for receipt, openid := range receiptFaults() {
		status, body := s.Call(t, http.MethodPost, "/v1/tasks", fmt.Sprintf(`{"type":"send:subscribe","app":%q,"id":"order-%s","batch":"receipts",`+
			`"body":{"touser":%q,"template_id":"T1","data":{"thing1":{"value":"已发货"}}}}`, app1, receipt, openid))
		if status != http.StatusAccepted {
			t.Fatalf("POST /v1/tasks: %d: %s", status, body)
		}
	}
	for receipt := range receiptFaults() {
		expected := fmt.Sprintf(`"receipt":%q`, receipt)
		if receipt == "none" {
			expected = `"accepted"`
		}
		s.waitTask(t, app1, "order-"+receipt, expected)
	}
	countEarlier(t, s, 3*time.Hour, 900, map[string]int{"delivered": 850, "blocked": 30, "failed": 10})
	countEarlier(t, s, 2*time.Hour, 1200, map[string]int{"delivered": 700, "blocked": 20})
}

// countEarlier counts accepted messages of the first app some time ago, and their receipts.
func countEarlier(t *testing.T, s *Site, ago time.Duration, accepted int, receipts map[string]int) {
	t.Helper()
	rdb := redis.NewClient(&redis.Options{Addr: s.Redis})
	defer func() { _ = rdb.Close() }()
	rdb.AddHook(slowClock(ago))
	recorder := series.NewRecorder(rdb, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	recorder.Run(ctx) // asks Redis for its time
	for range accepted {
		recorder.Add(app1, "send:subscribe", "accepted", 0)
	}
	for receipt, n := range receipts {
		for range n {
			recorder.AddReceipt(app1, "send:subscribe", receipt, time.Now().Add(-ago))
		}
	}
	recorder.Flush(t.Context())
}

// slowClock is a Redis whose clock is behind by that much.
type slowClock time.Duration

func (slowClock) DialHook(next redis.DialHook) redis.DialHook { return next }

func (c slowClock) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if at, ok := cmd.(*redis.TimeCmd); ok {
			at.SetVal(time.Now().Add(-time.Duration(c)))
			return nil
		}
		return next(ctx, cmd)
	}
}

func (slowClock) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}
