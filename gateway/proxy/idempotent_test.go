package proxy_test

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/internal/series"
	"github.com/wxcourier/wxcourier/sandbox"
	"github.com/wxcourier/wxcourier/tasks"
)

// TestIdempotencyKey: a message with a key is sent once. Its answer comes again, from all gateways,
// and its outcome is in the results.
func TestIdempotencyKey(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		s := newShop(t, rdb)
		gateways := []*gateway{s.start(), s.start()}
		ticket := gateways[0].ticket()
		var mu sync.Mutex
		var bodies []string
		inParallel(8, func(i int) {
			a := gateways[i%2].post(ticket, sendPath, messageTo("slow-oA"), "Idempotency-Key", "order-1")
			mu.Lock()
			defer mu.Unlock()
			bodies = append(bodies, string(a.body))
		})
		for _, body := range bodies {
			if body != bodies[0] || !strings.Contains(body, `"msgid":`) || !strings.Contains(body, `"errcode":0`) {
				t.Errorf("%s and %s", bodies[0], body)
			}
		}
		again := gateways[1].post(ticket, sendPath, messageTo("slow-oA"), "Idempotency-Key", "order-1")
		if string(again.body) != bodies[0] || again.header.Get("Idempotent-Replayed") != "true" {
			t.Errorf("again: %v, want %s", again, bodies[0])
		}
		if n := s.wx.Delivered(app, "slow-oA", ""); n != 1 || len(s.seen.of(sendPath)) != 1 {
			t.Errorf("delivered %d times in %d calls", n, len(s.seen.of(sendPath)))
		}
		result, err := tasks.NewClient(rdb).Result(t.Context(), app, "order-1")
		if err != nil || result.Outcome != tasks.OutcomeAccepted || result.Type != tasks.TypeSubscribe || result.MsgID == "" || result.Attempts != 1 || result.EnqueuedAt.IsZero() {
			t.Errorf("%+v, %v", result, err)
		}
		if n := rdb.XLen(t.Context(), ledger.StreamKey(app)).Val(); n != 1 {
			t.Errorf("%d results", n)
		}
		g := gateways[0]
		wantRefused(t, "the key with another message", g.post(ticket, sendPath, messageTo("oB"), "Idempotency-Key", "order-1"), 40097)
		wantRefused(t, "the key at another path", g.post(ticket, "/cgi-bin/message/custom/send", `{"touser":"oA","msgtype":"text","text":{"content":"x"}}`, "Idempotency-Key", "order-1"), 40097)
		wantRefused(t, "a bad key", g.post(ticket, sendPath, messageTo("oB"), "Idempotency-Key", "a b"), 40097)

		refused := g.post(ticket, sendPath, messageTo("unsubscribed-oA"), "Idempotency-Key", "order-2")
		replayed := g.post(ticket, sendPath, messageTo("unsubscribed-oA"), "Idempotency-Key", "order-2")
		if refused.ErrCode != 43101 || string(replayed.body) != string(refused.body) {
			t.Errorf("a refusal: %v, again: %v", refused, replayed)
		}
		busy := g.post(ticket, sendPath, messageTo("busy-oA"), "Idempotency-Key", "order-3")
		if repeated := g.post(ticket, sendPath, messageTo("busy-oA"), "Idempotency-Key", "order-3"); busy.ErrCode != -1 || repeated.ErrCode != 0 {
			t.Errorf("a busy WeChat: %v, and then: %v", busy, repeated)
		}
		if got := s.counted(gateways...); got != "accepted 0 ×2, refused 43101 ×1" {
			t.Errorf("counted over time: %s", got)
		}
		history, err := ledger.New(rdb, ledger.Policy{}).History(t.Context(), app, "order-3")
		if err != nil || len(history.Failed) != 1 || history.Failed[0].Code != -1 || history.Failed[0].Class != "busy" || strings.Contains(history.Failed[0].Msg, "busy-oA") {
			t.Errorf("the failed attempts are %+v, %v", history.Failed, err)
		}
		if found, err := ledger.New(rdb, ledger.Policy{}).FindOpenID(t.Context(), []string{app}, "busy-oA"); err != nil || len(found) == 0 || found[0].ID != "order-3" {
			t.Errorf("by its receiver: %v, %v", found, err)
		}
	})
}

// counted returns how often each outcome was counted over time.
func (s *shop) counted(gateways ...*gateway) string {
	s.t.Helper()
	for _, g := range gateways {
		g.series.Flush(context.Background())
	}
	points, err := series.Read(context.Background(), s.rdb, series.Query{
		Apps: []string{app}, From: time.Now().Add(-2 * time.Hour), To: time.Now().Add(time.Hour), Step: series.Hour,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	sums := make(map[string]int64)
	for _, p := range points {
		sums[fmt.Sprint(p.Outcome, " ", p.ErrCode)] += p.Count
	}
	var all []string
	for _, kind := range slices.Sorted(maps.Keys(sums)) {
		all = append(all, fmt.Sprint(kind, " ×", sums[kind]))
	}
	return strings.Join(all, ", ")
}

// TestAMessageWithoutAnAnswer: it is not sent again, also where the gateway died with it.
func TestAMessageWithoutAnAnswer(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		s := newShop(t, rdb)
		g := s.start()
		ticket := g.ticket()
		for range 2 {
			a := g.post(ticket, sendPath, messageTo("lost-oA"), "Idempotency-Key", "order-1")
			wantRefused(t, "no answer", a, -1)
			if a.status != http.StatusGatewayTimeout || !strings.Contains(a.ErrMsg, "do not repeat") {
				t.Errorf("%v", a)
			}
		}
		// A gateway that dies after the write leaves the fence behind.
		book := ledger.New(rdb, ledger.Policy{Retention: time.Hour, DeadAfter: time.Minute, LostLimit: 3})
		ref := ledger.Ref{App: app, ID: "order-2"}
		queue := tasks.QueueName(app, tasks.TypeSubscribe, tasks.Urgent)
		if _, err := book.Mark(t.Context(), ref, queue, "sending"); err != nil {
			t.Fatal(err)
		}
		if o, err := book.Open(t.Context(), ref, ledger.OpenRequest{Runner: "gone", Queue: queue, Fenced: true, Marked: true}); err != nil || o.Admission != ledger.Proceed {
			t.Fatal(o, err)
		}
		g.wait = 0
		a := s.start().post(ticket, sendPath, messageTo("oC"), "Idempotency-Key", "order-2")
		wantRefused(t, "its owner may be alive", a, -1)
		if a.status != http.StatusConflict {
			t.Errorf("%v", a)
		}
		if err := rdb.HSet(t.Context(), ledger.TaskKey(app, "order-2"), "run", "gone 1000").Err(); err != nil { // long ago
			t.Fatal(err)
		}
		for range 2 {
			a := g.post(ticket, sendPath, messageTo("oC"), "Idempotency-Key", "order-2")
			wantRefused(t, "its owner is dead", a, -1)
			if a.status != http.StatusGatewayTimeout {
				t.Errorf("%v", a)
			}
		}
		if n := s.wx.Delivered(app, "oC", ""); n != 0 {
			t.Errorf("the message of the dead gateway was sent %d times", n)
		}
		if n := s.wx.CallCount(app, "lost-oA", "").Calls; n != 1 {
			t.Errorf("the message without an answer was sent %d times", n)
		}
		if r, err := tasks.NewClient(rdb).Result(t.Context(), app, "order-2"); err != nil || r.Outcome != tasks.OutcomeUnknown {
			t.Errorf("%+v, %v", r, err)
		}
	})
}

// TestRespondAsync: a request that is only to be enqueued becomes a task, once, and WeChat is not
// called; its outcome answers a repetition.
func TestRespondAsync(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		s := newShop(t, rdb)
		g := s.start()
		ticket := g.ticket()
		for range 2 {
			a := g.post(ticket, sendPath, messageTo("oA"), "Idempotency-Key", "order-1", "Prefer", "wait=5, respond-async")
			if a.status != http.StatusAccepted || a.ErrCode != 0 || a.ErrMsg != "ok" || a.Task.App != app || a.Task.ID != "order-1" {
				t.Fatalf("%v", a)
			}
			if at := a.header.Get("Location"); at != "/v1/tasks/"+app+"/order-1" {
				t.Error(at)
			}
		}
		if a := g.post(ticket, sendPath, messageTo("oA"), "Prefer", "respond-async"); a.status != http.StatusAccepted || a.Task.ID == "" {
			t.Errorf("without a key: %v", a)
		}
		wantRefused(t, "a body that is not valid", g.post(ticket, sendPath, `{"touser":"oA"}`, "Prefer", "respond-async"), 47003)
		wantRefused(t, "another body", g.post(ticket, sendPath, messageTo("oB"), "Idempotency-Key", "order-1", "Prefer", "respond-async"), 40097)
		s.wait = time.Millisecond
		a := s.start().post(ticket, sendPath, messageTo("oA"), "Idempotency-Key", "order-1")
		wantRefused(t, "the same message at once", a, -1) // the task waits for a worker
		if a.status != http.StatusConflict {
			t.Errorf("%v", a)
		}
		if n := len(s.seen.all); n != 0 {
			t.Errorf("WeChat got %d calls", n)
		}
		book := ledger.New(rdb, ledger.Policy{Retention: time.Hour})
		result := tasks.Result{ID: "order-1", App: app, Type: tasks.TypeSubscribe, State: tasks.StateDone, Outcome: tasks.OutcomeRefused, ErrCode: 43101, ErrMsg: "user refuse", RID: "6500-1"}
		if _, err := book.Settle(t.Context(), ledger.Ref{App: app, ID: "order-1"}, ledger.SettleRequest{Outcome: "refused", Result: result.Encode()}); err != nil {
			t.Fatal(err)
		}
		for _, prefer := range []string{"respond-async", "none"} {
			a := g.post(ticket, sendPath, messageTo("oA"), "Idempotency-Key", "order-1", "Prefer", prefer)
			if string(a.body) != `{"errcode":43101,"errmsg":"user refuse rid: 6500-1"}` {
				t.Errorf("%s: %v", prefer, a)
			}
		}
	})
}

// TestRedisGone: without Redis nothing is sent, since neither limits nor holds are known.
func TestRedisGone(t *testing.T) {
	server := redistest.Start(t)
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr(), MaxRetries: -1, DialerRetries: 1}) // fails soon
	t.Cleanup(func() { _ = rdb.Close() })
	s := newShop(t, rdb)
	g := s.start()
	ticket := g.ticket()
	if a := g.post(ticket, schemePath, schemeBody); a.OpenLink == "" {
		t.Fatalf("%v", a)
	}
	server.Kill()
	wantRefused(t, "a call", g.post(ticket, schemePath, schemeBody), -1)
	wantRefused(t, "a message with a key", g.post(ticket, sendPath, messageTo("oA"), "Idempotency-Key", "order-1"), -1)
	wantRefused(t, "a task", g.post(ticket, sendPath, messageTo("oA"), "Prefer", "respond-async"), -1)
	if a := g.ticketOf(g.key, app); a.AccessToken == "" {
		t.Errorf("a ticket needs no Redis once the secret is known: %v", a)
	}
	if n := s.wx.Count(sandbox.Filter{Path: sendPath}); n != 0 {
		t.Errorf("%d messages were sent", n)
	}
}
