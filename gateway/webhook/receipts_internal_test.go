package webhook

import (
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/tasks"
)

// receive adds the receipt of a task to the stream.
func receive(t *testing.T, rdb redis.UniversalClient, id string, receipt tasks.DeliveryReceipt) {
	t.Helper()
	r := tasks.Result{
		ID: id, App: app, Type: tasks.TypeSubscribe, State: tasks.StateDone, Outcome: tasks.OutcomeAccepted, MsgID: "3395159288267931652",
		Receipt: receipt, ReceiptStatus: "a status", ReceiptAt: time.Now(),
	}
	if err := rdb.XAdd(t.Context(), &redis.XAddArgs{Stream: ledger.StreamKey(app), Values: []any{"result", r.Encode()}}).Err(); err != nil {
		t.Fatal(err)
	}
}

// TestEndpointsGetReceipts: an endpoint without a filter gets outcomes and receipts; with filters those
// that are named, so that one for failures gets no receipt of accepted messages.
func TestEndpointsGetReceipts(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		t.Parallel()
		l := newLedger(t, rdb, 0)
		wants := map[string][]string{
			"all":      {"ok0", "bad0", "r1", "r2", "end0"},
			"outcomes": {"bad0", "end0"},
			"receipts": {"r2"},
			"both":     {"bad0", "r2", "end0"},
			"accepted": {"ok0"},
		}
		endpoints := make(map[string]*endpoint)
		var cfgs []Endpoint
		for name := range wants {
			e := newEndpoint(t)
			cfg := e.config(name)
			switch endpoints[name] = e; name {
			case "outcomes":
				cfg.Outcomes = []tasks.Outcome{tasks.OutcomeFailed}
			case "receipts":
				cfg.Receipts = []tasks.DeliveryReceipt{tasks.ReceiptBlocked}
			case "both":
				cfg.Outcomes, cfg.Receipts = []tasks.Outcome{tasks.OutcomeFailed}, []tasks.DeliveryReceipt{tasks.ReceiptBlocked}
			case "accepted":
				cfg.Outcomes = []tasks.Outcome{tasks.OutcomeAccepted}
			}
			cfgs = append(cfgs, cfg)
		}
		stop := started(t, rdb, newSender(t, rdb, cfgs...))
		fail := func(_ int, r *tasks.Result) { r.Outcome = tasks.OutcomeFailed }
		settle(t, l, app, "ok", 1, nil)
		settle(t, l, app, "bad", 1, fail)
		receive(t, rdb, "r1", tasks.ReceiptDelivered)
		receive(t, rdb, "r2", tasks.ReceiptBlocked)
		settle(t, l, app, "end", 1, fail)
		redistest.Until(t, long, "the endpoints have caught up", func() bool {
			return !slices.ContainsFunc(cfgs, func(e Endpoint) bool {
				return status(t, rdb, e).State != StateCaughtUp || len(endpoints[e.Name].accepted(app)) < len(wants[e.Name])
			})
		})
		stop()
		for name, want := range wants {
			if got := endpoints[name].accepted(app); !slices.Equal(got, want) {
				t.Errorf("%s got %v, want %v", name, got, want)
			}
		}
	})
}
