package callback

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/wechat/callback"
)

var errHandler = errors.New("the handler failed")

// inOrder reports whether the pushes have the msgids 1 to n, once each, in their order.
func inOrder(all []callback.Push, n int) error {
	if len(all) != n {
		return fmt.Errorf("%d pushes, want %d", len(all), n)
	}
	for i, p := range all {
		if p.MsgID != strconv.Itoa(i+1) {
			return fmt.Errorf("push %d has the msgid %s", i, p.MsgID)
		}
	}
	return nil
}

// TestOrderAfterErrors: a handler that fails gets the pushes again, in their order; the panic of one is
// an error as well.
func TestOrderAfterErrors(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		h := newHarness(t, rdb, quick(), nil)
		calls := 0
		h.handler.setFail(func([]callback.Push) error {
			switch calls++; {
			case calls == 2:
				panic(openid)
			case calls < 5:
				return errHandler
			}
			return nil
		})
		const n = 40
		for i := range n {
			if status, _ := h.send(app, receipt(i+1)); status != 200 {
				t.Fatal(status)
			}
			if i == n/2 {
				h.start()
			}
		}
		redistest.Until(t, long, "all are handled", func() bool { return len(h.handler.pushes()) >= n && h.waiting(app) == 0 })
		if err := inOrder(h.handler.pushes(), n); err != nil {
			t.Error(err)
		}
		if testutil.ToFloat64(h.metrics.handled.WithLabelValues(app, handledFailed)) == 0 {
			t.Error("not counted")
		}
		h.quiet()
	})
}

// TestTakeOver: what a gateway stored and did not handle is handled by another one, when the lease of
// the first has expired; two at a time share the work and keep the order.
func TestTakeOver(t *testing.T) {
	t.Parallel()
	rdb := redistest.Start(t).Client(t)
	tune := quick()
	tune.lease = 3 * time.Second
	dead := newHarness(t, rdb, tune, nil)
	for i := range 20 {
		dead.send(app, receipt(i+1))
	}
	if entries, owned, err := dead.next(t.Context(), app, 5, nil); err != nil || !owned || len(entries) != 5 {
		t.Fatal(len(entries), owned, err) // it dies while it handles them
	}
	one, two := newHarness(t, rdb, tune, nil), newHarness(t, rdb, tune, nil)
	if _, owned, err := one.next(t.Context(), app, 5, nil); err != nil || owned {
		t.Fatal("the app has two owners", err)
	}
	one.handler, two.handler = dead.handler, dead.handler // they see what all have handled
	one.deps.Handlers[0], two.deps.Handlers[0] = dead.handler, dead.handler
	one.start()
	two.start()
	redistest.Until(t, long, "all are handled", func() bool { return len(dead.handler.pushes()) == 20 })
	for i := range 40 {
		[]*harness{one, two}[i%2].send(app, receipt(21+i))
	}
	redistest.Until(t, long, "all are handled", func() bool { return len(dead.handler.pushes()) >= 60 && one.waiting(app) == 0 })
	if err := inOrder(dead.handler.pushes(), 60); err != nil {
		t.Error(err)
	}
	redistest.Until(t, long, "the lease is given up", func() bool { return rdb.Exists(t.Context(), leaseKey(app)).Val() == 0 })
}

// TestBadPush: one push that no handler takes does not stop the others for long, and is dropped; one
// that cannot be read is dropped at once.
func TestBadPush(t *testing.T) {
	t.Parallel()
	_, rdb := redistest.Mini(t)
	tune := quick()
	tune.drop = time.Millisecond
	h := newHarness(t, rdb, tune, nil)
	h.handler.setFail(func(batch []callback.Push) error {
		for _, p := range batch {
			if p.MsgID == "3" {
				return errHandler
			}
		}
		return nil
	})
	for i := range 5 {
		h.send(app, receipt(i+1))
	}
	if err := rdb.XAdd(t.Context(), &redis.XAddArgs{Stream: streamKey(app), Values: []string{"push", "{"}}).Err(); err != nil {
		t.Fatal(err)
	}
	h.start()
	redistest.Until(t, long, "the others are handled", func() bool { return len(h.handler.pushes()) == 4 && h.waiting(app) == 0 })
	if got := testutil.ToFloat64(h.metrics.handled.WithLabelValues(app, handledDropped)); got != 2 {
		t.Errorf("%v dropped", got)
	}
	for _, want := range []string{"a push is given up", "cannot be read"} {
		if !strings.Contains(h.log.String(), want) {
			t.Errorf("%q is not logged", want)
		}
	}
	h.quiet()
}

// TestFailingPushBlocksNoOther: a push that cannot be handled before one that is stored behind it, such as
// an authorization before the ticket of a service provider, moves behind that.
func TestFailingPushBlocksNoOther(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		h := newHarness(t, rdb, quick(), nil)
		var ticket bool
		h.handler.setFail(func(batch []callback.Push) error {
			for _, p := range batch {
				ticket = ticket || p.MsgID == "2"
			}
			if !ticket {
				return errHandler
			}
			return nil
		})
		h.send(app, receipt(1))
		h.start()
		redistest.Until(t, long, "the first one has failed alone", func() bool {
			return testutil.ToFloat64(h.metrics.handled.WithLabelValues(app, handledFailed)) > 3
		})
		h.send(app, receipt(2))
		redistest.Until(t, long, "both are handled", func() bool { return len(h.handler.pushes()) == 2 && h.waiting(app) == 0 })
	})
}

// TestMovedPushKeepsItsAge: a push that moved behind others is given up as long after it came as any other.
func TestMovedPushKeepsItsAge(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		h := newHarness(t, rdb, quick(), nil)
		h.send(app, receipt(1))
		h.send(app, receipt(2))
		before, _, err := h.next(t.Context(), app, 1, nil)
		if err != nil || len(before) != 1 {
			t.Fatal(before, err)
		}
		for range 2 { // the second time there is no such entry
			if err := h.move(t.Context(), app, before[0]); err != nil {
				t.Fatal(err)
			}
		}
		after, _, err := h.next(t.Context(), app, 10, nil)
		if err != nil || len(after) != 2 || after[1].text != before[0].text || after[1].id == before[0].id || !after[1].added().Equal(before[0].added()) {
			t.Errorf("%+v, then %+v, %v", before, after, err)
		}
	})
}

// TestStopBetweenBatches: a gateway that is stopped removes what it has handled, and gives the app up.
func TestStopBetweenBatches(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		h := newHarness(t, rdb, quick(), nil)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		h.handler.setFail(func([]callback.Push) error { cancel(); return nil })
		h.send(app, receipt(1))
		h.Run(ctx)
		if got := len(h.handler.pushes()); got != 1 || h.waiting(app) != 0 || rdb.Exists(t.Context(), leaseKey(app)).Val() != 0 {
			t.Errorf("%d handled, %d stored, lease: %v", got, h.waiting(app), rdb.Get(t.Context(), leaseKey(app)).Val())
		}
	})
}

// TestSweepOfABrokenStream: an app whose key another program has overwritten does not stop the others.
func TestSweepOfABrokenStream(t *testing.T) {
	t.Parallel()
	_, rdb := redistest.Mini(t)
	h := newHarness(t, rdb, quick(), nil)
	h.send(app, receipt(1))
	if err := errors.Join(rdb.SAdd(t.Context(), appsKey, otherID).Err(), rdb.Set(t.Context(), streamKey(otherID), "x", 0).Err()); err != nil {
		t.Fatal(err)
	}
	h.mu.Lock()
	clear(h.drains)
	h.mu.Unlock()
	if err := h.sweep(t.Context()); err == nil {
		t.Error("no error")
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.drains[app] == nil || h.drains[otherID] != nil {
		t.Errorf("%v", h.drains)
	}
}

// TestBounded: a stream whose pushes are not handled has a maximum length; what is cut is counted and logged.
func TestBounded(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		tune := quick()
		tune.most = 10
		h := newHarness(t, rdb, tune, nil)
		for i := range 14 {
			h.send(app, receipt(i+1))
		}
		if got := h.waiting(app); got != 10 {
			t.Errorf("%d entries", got)
		}
		if got := testutil.ToFloat64(h.metrics.handled.WithLabelValues(app, handledCut)); got != 4 {
			t.Errorf("%v counted", got)
		}
		if !strings.Contains(h.log.String(), "before they were handled") {
			t.Error("not logged")
		}
	})
}

// TestUnknownApp: pushes of an app that a gateway does not know are left to those that do, for some time.
func TestUnknownApp(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		const gone = "wx9999999999999999"
		h := newHarness(t, rdb, quick(), nil)
		add := func(age time.Duration) {
			id := strconv.FormatInt(time.Now().Add(-age).UnixMilli(), 10) + "-1"
			if err := rdb.XAdd(t.Context(), &redis.XAddArgs{Stream: streamKey(gone), ID: id, Values: []string{"push", "{}"}}).Err(); err != nil {
				t.Fatal(err)
			}
		}
		if err := rdb.SAdd(t.Context(), appsKey, gone).Err(); err != nil {
			t.Fatal(err)
		}
		add(25 * time.Hour)
		add(time.Hour)
		h.start()
		redistest.Until(t, long, "the old one is removed", func() bool { return h.waiting(gone) == 1 })
		if !strings.Contains(h.log.String(), "not configured any more") || len(h.handler.pushes()) != 0 {
			t.Error(h.log)
		}
	})
}

// TestAnnounced: an app is known to the sweep of other gateways, also after the set was lost.
func TestAnnounced(t *testing.T) {
	t.Parallel()
	_, rdb := redistest.Mini(t)
	h := newHarness(t, rdb, quick(), nil)
	h.send(app, receipt(1))
	if !rdb.SIsMember(t.Context(), appsKey, app).Val() {
		t.Fatal("not announced")
	}
	rdb.Del(t.Context(), appsKey)
	h.rounds.mu.Lock()
	h.rounds.announced[app] = time.Now().Add(-announceEvery)
	h.rounds.mu.Unlock()
	h.send(app, receipt(2))
	if !rdb.SIsMember(t.Context(), appsKey, app).Val() {
		t.Error("not announced again")
	}
}

// TestIdleCost: without pushes a gateway asks Redis for one set, now and then.
func TestIdleCost(t *testing.T) {
	t.Parallel()
	_, rdb := redistest.Mini(t)
	h := newHarness(t, rdb, quick(), nil)
	counter := &commands{}
	rdb.(*redis.Client).AddHook(counter)
	if err := h.sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := counter.names; len(got) != 1 || got[0] != "smembers" {
		t.Errorf("%v", got)
	}
}

// commands counts commands outside of pipelines.
type commands struct{ names []string }

func (c *commands) DialHook(next redis.DialHook) redis.DialHook { return next }

func (c *commands) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() != "hello" && cmd.Name() != "client" {
			c.names = append(c.names, cmd.Name())
		}
		return next(ctx, cmd)
	}
}

func (c *commands) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}
