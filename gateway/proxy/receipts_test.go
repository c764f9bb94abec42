package proxy_test

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/gateway/proxy"
	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/internal/pushes"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/wechat/callback"
)

// TestReceiptOfAMessage: the receipt of a message with an Idempotency-Key is joined to its record,
// where receipts are on. A repetition of the request does not change that.
func TestReceiptOfAMessage(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		s := newShop(t, rdb)
		s.apps[app] = proxy.App{Receipts: true}
		g := s.start()
		var joined []string
		receipts := pushes.NewReceipts(pushes.ReceiptsDeps{
			Redis: rdb, Policy: ledger.Policy{Retention: time.Hour, DeadAfter: time.Minute, IndexOpenIDs: true},
			Apps: func() []string { return []string{app, other} }, Log: slog.New(slog.DiscardHandler),
			OnReceipt: func(r tasks.Result, sent time.Time) {
				joined = append(joined, fmt.Sprint(r.App, " ", r.ID, " ", r.Receipt, " ", sent.Equal(r.FinishedAt)))
			},
		})
		for _, of := range []string{app, other} {
			ticket := g.ticketOf(s.key, of).AccessToken
			sent := g.post(ticket, sendPath, messageTo("oA"), "Idempotency-Key", "order-1")
			if sent.ErrCode != 0 || sent.MsgID == "" {
				t.Fatalf("%v", sent)
			}
			g.post(ticket, sendPath, messageTo("oA"), "Idempotency-Key", "order-1")
			push := callback.Push{From: "oA", Created: time.Now(), Type: "event", Event: callback.EventSubscribeSent, Receipts: []callback.Receipt{
				{MsgID: sent.MsgID.String(), TemplateID: "T1", Delivery: callback.Blocked, Status: "failed:user block"},
			}}
			if err := receipts.Handle(t.Context(), of, []callback.Push{push}); err != nil {
				t.Fatal(err)
			}
		}
		if got, want := fmt.Sprint(joined), "["+app+" order-1 blocked true]"; got != want {
			t.Errorf("joined: %s, want %s", got, want)
		}
		result, err := tasks.NewClient(rdb).Result(t.Context(), app, "order-1")
		if err != nil || result.Receipt != tasks.ReceiptBlocked || result.ReceiptStatus != "failed:user block" || result.ReceiptAt.IsZero() {
			t.Errorf("%+v, %v", result, err)
		}
	})
}
