package webhook

import (
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/internal/redistest"
)

// sizeVariable sets the number of results that arrive while the endpoint is down. With 300000 the
// stream may have 100,000 entries, otherwise a third.
const sizeVariable = "WXCOURIER_TEST_WEBHOOK_RESULTS"

func lagSize() int {
	if n, err := strconv.Atoi(os.Getenv(sizeVariable)); err == nil {
		return n
	}
	return 3000
}

// An endpoint is down while three times as many results arrive as the stream may have: none is lost
// or skipped, and a repetition has the webhook-id and the bytes of the first call. Then the stream
// shrinks to its maximum.
func TestLaggingEndpointLosesNothing(t *testing.T) {
	t.Parallel()
	n := lagSize()
	rdb := redistest.Start(t).Client(t)
	e, l := newEndpoint(t), newLedger(t, rdb, int64(n/3))
	down := func(message, http.ResponseWriter) int { return http.StatusServiceUnavailable }
	e.answers(down)
	cfg := e.config("crm")
	started(t, rdb, newSender(t, rdb, cfg))
	run(t, newSender(t, rdb, cfg))
	settle(t, l, app, "a", n, nil)
	if got := status(t, rdb, cfg); got.Lag != int64(n) || got.State != StateRetrying {
		t.Errorf("while it is down: %+v", got)
	}
	if length := rdb.XLen(t.Context(), ledger.StreamKey(app)).Val(); length != int64(n) {
		t.Errorf("%d of %d results are in the stream", length, n)
	}
	calls := 0
	e.answers(func(message, http.ResponseWriter) int { // up, with failures in between
		if calls++; calls%10 == 3 {
			return http.StatusBadGateway
		}
		return http.StatusOK
	})
	redistest.Until(t, 5*time.Minute, "all are accepted", func() bool { return status(t, rdb, cfg).Lag == 0 })
	if got := e.accepted(app); !slices.Equal(got, names("a", n)) {
		t.Errorf("%d of %d results were accepted, or in another order", len(got), n)
	}
	checkRepetitions(t, e.got())
	settle(t, l, app, "b", 600, nil)
	redistest.Until(t, long, "the stream has its length again", func() bool {
		if err := l.TrimStream(t.Context(), app); err != nil {
			t.Fatal(err)
		}
		return rdb.XLen(t.Context(), ledger.StreamKey(app)).Val() <= int64(n/3)+130
	})
	redistest.Until(t, long, "the last are accepted", func() bool { return len(e.accepted(app)) == n+600 })
}

// checkRepetitions checks that calls with results in common are the same call.
func checkRepetitions(t *testing.T, calls []message) {
	t.Helper()
	first := make(map[string]message)
	repeated := 0
	for _, m := range calls {
		for _, id := range m.ids {
			before, again := first[id]
			if !again {
				first[id] = m
			} else if repeated++; before.id != m.id || string(before.body) != string(m.body) {
				t.Errorf("%s was sent by %s, and again by %s", id, before.id, m.id)
			}
		}
	}
	if repeated == 0 {
		t.Error("no call was repeated")
	}
}

// Beyond the hard cap results are removed: the endpoint learns of it by an event, which is repeated
// like results are, and gets all that is left.
func TestGap(t *testing.T) {
	t.Parallel()
	rdb := redistest.Start(t).Client(t)
	e, l := newEndpoint(t), newLedger(t, rdb, 500)
	up := func(message, http.ResponseWriter) int { return http.StatusOK }
	cfg := e.config("crm")
	s := newSender(t, rdb, cfg)
	s.deps.StreamMaxLen = 1500
	stop := started(t, rdb, s)
	settle(t, l, app, "a", 10, nil)
	redistest.Until(t, long, "the first are accepted", func() bool { return len(e.accepted(app)) == 10 })
	e.answers(func(message, http.ResponseWriter) int { return http.StatusServiceUnavailable })
	settle(t, l, app, "b", 60, nil)
	redistest.Until(t, long, "a batch is stored", func() bool { return status(t, rdb, cfg).State == StateRetrying })
	stop()
	settle(t, l, app, "c", 3000, nil)
	if length := rdb.XLen(t.Context(), ledger.StreamKey(app)).Val(); length < 1500 || length > 1630 {
		t.Errorf("%d entries with a hard cap of 1500", length)
	}

	failures := 0
	e.answers(func(m message, w http.ResponseWriter) int {
		if m.typ == typeGap && failures < 2 {
			failures++
			return http.StatusBadGateway
		}
		return up(m, w)
	})
	s = newSender(t, rdb, cfg)
	s.deps.StreamMaxLen = 1500
	run(t, s)
	redistest.Until(t, long, "the endpoint has caught up", func() bool { return status(t, rdb, cfg).Lag == 0 })
	var gaps []message
	for _, m := range e.got() {
		if m.typ == typeGap { // after the calls that failed
			gaps = append(gaps, m)
		}
	}
	got := e.accepted(app)[10:]
	if want := names("c", 3000); len(got) < 1370 || !slices.Equal(got, want[len(want)-len(got):]) {
		t.Errorf("after the gap: %d results, from %s on", len(got), got[0])
	}
	if len(gaps) != 3 || gaps[0].id != gaps[2].id || gaps[0].from == "" || gaps[0].from >= gaps[0].to || gaps[0].app != app || len(gaps[0].ids) > 0 {
		for _, gap := range gaps {
			t.Errorf("gap %s: %s", gap.id, gap.body)
		}
	}
	if n := testutil.ToFloat64(s.metrics.gaps.WithLabelValues("crm")); n != 1 {
		t.Errorf("%v gaps are counted", n)
	}
}

// A gateway is killed: another one takes over after the lease. At most one batch is repeated, with
// the same webhook-id, and no result is missing or sent at the same time by both.
func TestTakeoverAfterKill(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	rdb := server.Client(t)
	e, l := newEndpoint(t), newLedger(t, rdb, 0)
	cfg := e.config("crm")
	var arrived = make(chan struct{}, 1)
	reply := make(chan struct{})
	e.answers(func(message, http.ResponseWriter) int { // takes the call, and answers after the kill
		select {
		case arrived <- struct{}{}:
		default:
		}
		<-reply
		return http.StatusOK
	})
	//nolint:gosec // this test's own program
	killed := exec.CommandContext(t.Context(), os.Args[0])
	killed.Env = append(os.Environ(), gatewayVariable+"="+server.Addr()+" "+cfg.URL)
	killed.Stderr = os.Stderr
	if err := killed.Start(); err != nil {
		t.Fatal(err)
	}
	redistest.Until(t, long, "the gateway has its readers", func() bool { return status(t, rdb, cfg).State == StateCaughtUp })
	settle(t, l, app, "a", 400, nil)
	<-arrived
	s := newSender(t, rdb, cfg)
	s.tuning.lease = testLease
	run(t, s)
	if err := killed.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = killed.Wait()
	close(reply)
	redistest.Until(t, long, "all are accepted", func() bool { return status(t, rdb, cfg).Lag == 0 && len(e.accepted(app)) >= 400 })
	ids := make(map[string]int)
	for _, m := range e.got() {
		if ids[m.id]++; ids[m.id] > 2 {
			t.Errorf("%s was sent %d times", m.id, ids[m.id])
		}
	}
	calls := e.got()
	if len(ids) != len(calls)-1 || calls[0].id != calls[1].id || string(calls[0].body) != string(calls[1].body) {
		t.Errorf("%d calls with %d ids", len(calls), len(ids))
	}
	if got := e.accepted(app)[len(calls[0].ids):]; !slices.Equal(got, names("a", 400)) {
		t.Errorf("accepted: %v", got)
	}
}

// gatewayVariable makes the test's program a gateway: the address of Redis, and a URL.
const gatewayVariable = "WXCOURIER_TEST_WEBHOOK_GATEWAY"

// testLease is the lease of the gateways that are killed.
const testLease = time.Second

// gatewayMain runs a sender until it is killed.
func gatewayMain(addr, url string) int {
	rdb := redis.NewClient(&redis.Options{Addr: addr})
	s, err := New([]Endpoint{{Name: "crm", URL: url, Secret: secret, AllowPrivate: []string{"127.0.0.1"}}},
		Deps{Redis: rdb, Log: discard(), StreamMaxLen: 1_000_000})
	if err != nil {
		return 1
	}
	s.tuning.poll, s.tuning.lease = 5*time.Millisecond, testLease
	_ = s.Run(contextOfProcess())
	return 0
}

// A gateway that lost its lease, since it stood still, does not move the reader.
func TestStaleGatewayChangesNothing(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		t.Parallel()
		l := newLedger(t, rdb, 0)
		if err := ledger.TendReaders(t.Context(), rdb, app, 1000, []ledger.ReaderStart{{Name: "crm"}}); err != nil {
			t.Fatal(err)
		}
		settle(t, l, app, "a", 3, nil)
		reader := func(owner string, lease time.Duration) *ledger.Reader {
			return ledger.NewReader(rdb, ledger.ReaderConfig{App: app, Name: "crm", Owner: owner, Lease: lease})
		}
		slow, next := reader("slow", time.Millisecond), reader("next", time.Hour)
		if _, wait, err := slow.Acquire(t.Context()); err != nil || wait != 0 {
			t.Fatal(wait, err)
		}
		if err := slow.Store(t.Context(), []byte(`{"type":"results"}`)); err != nil {
			t.Fatal(err)
		}
		redistest.Until(t, long, "the lease has ended", func() bool {
			state, wait, err := next.Acquire(t.Context())
			return err == nil && wait == 0 && string(state.Batch) == `{"type":"results"}`
		})
		entries, _, err := ledger.Page(t.Context(), rdb, app, "0-0", 10)
		if err != nil || len(entries) != 3 {
			t.Fatal(entries, err)
		}
		for name, err := range map[string]error{
			"store": slow.Store(t.Context(), []byte("x")), "advance": slow.Advance(t.Context(), ledger.Step{Cursor: entries[2].ID, Passed: 3}),
			"fail": slow.Fail(t.Context(), time.Hour, []byte("x")),
		} {
			if err == nil || !strings.Contains(err.Error(), "lease") {
				t.Errorf("%s: %v", name, err)
			}
		}
		if _, wait, err := slow.Acquire(t.Context()); err != nil || wait < time.Minute {
			t.Errorf("a second gateway got the reader: %v, %v", wait, err)
		}
		if readers, err := ledger.Readers(t.Context(), rdb, app); err != nil || readers[0].Lag != 3 || !readers[0].Leased {
			t.Errorf("%+v, %v", readers, err)
		}
	})
}
