package ledger_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/internal/redistest"
)

// addOld adds entries that are older than the given time.
func addOld(t *testing.T, rdb redis.UniversalClient, n int, before time.Time) {
	t.Helper()
	for i := range n {
		id := fmt.Sprintf("%d-0", before.UnixMilli()-int64(n)+int64(i))
		if err := rdb.XAdd(t.Context(), &redis.XAddArgs{Stream: ledger.StreamKey(app), ID: id, Values: []string{"result", strings.Repeat("x", 300)}}).Err(); err != nil {
			t.Fatal(err)
		}
	}
}

func settleMany(t *testing.T, l *ledger.Ledger, first, n int) {
	t.Helper()
	for i := first; i < first+n; i++ {
		id := fmt.Sprintf("m%d", i)
		if _, err := l.Settle(t.Context(), ledger.Ref{App: app, ID: id}, ledger.SettleRequest{
			Outcome: "accepted", Result: fmt.Appendf(nil, `{"id":%q,"filler":%q}`, id, strings.Repeat("x", 300)),
		}); err != nil {
			t.Fatal(err)
		}
	}
}

// nodeSlack is more than the entries of one node of a stream, and than the settled tasks between two trims.
const nodeSlack = 130

// TestStreamKeepsRetention: results leave the stream when they are older than the retention, and
// stay until then however many there are.
func TestStreamKeepsRetention(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		l := ledger.New(rdb, ledger.Policy{Retention: time.Hour})
		old := time.Now().Add(-time.Hour)
		addOld(t, rdb, 600, old)
		addOld(t, rdb, 400, old.Add(30*time.Minute))
		settleMany(t, l, 0, 64)
		all := rdb.XRange(t.Context(), ledger.StreamKey(app), "-", "+").Val()
		young := 0
		for _, e := range all {
			if ledger.EntryTime(e.ID).After(old) {
				young++
			}
		}
		if young != 400+64 || len(all) > young+nodeSlack {
			t.Errorf("%d entries, %d of them young", len(all), young)
		}
		cut, err := l.Cut(t.Context(), app)
		if err != nil || cut.ByLength || cut.First != all[0].ID || !cut.After("0-0") || cut.After(all[len(all)-1].ID) {
			t.Errorf("%+v, %v; the first is %s", cut, err, all[0].ID)
		}
	})
}

// TestStreamOutlivesRecords: the stream can have a retention of its own.
func TestStreamOutlivesRecords(t *testing.T) {
	_, rdb := redistest.Mini(t)
	l := ledger.New(rdb, ledger.Policy{Retention: time.Minute, StreamRetention: 100 * 365 * 24 * time.Hour})
	addOld(t, rdb, 500, time.Now().Add(-time.Hour))
	settleMany(t, l, 0, 32)
	if n := rdb.XLen(t.Context(), ledger.StreamKey(app)).Val(); n != 532 {
		t.Errorf("%d of 532 results are left", n)
	}
}

// TestCutIsExact: a reader that has read the last removed result has missed nothing.
func TestCutIsExact(t *testing.T) {
	_, rdb := redistest.Mini(t) // which removes single entries
	l := ledger.New(rdb, ledger.Policy{Retention: time.Hour})
	old := time.Now().Add(-2 * time.Hour)
	addOld(t, rdb, 40, old)
	last := fmt.Sprintf("%d-0", old.UnixMilli()-1)
	settleMany(t, l, 0, 16)
	cut, err := l.Cut(t.Context(), app)
	if err != nil || cut.ID != last || cut.After(last) || !cut.After(fmt.Sprintf("%d-0", old.UnixMilli()-2)) {
		t.Errorf("%+v, %v, want %s", cut, err, last)
	}
}

// TestStreamMax: the length cuts results before the retention is over, which is noted; 0 does not.
func TestStreamMax(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		length := func() int { return int(rdb.XLen(t.Context(), ledger.StreamKey(app)).Val()) }
		settleMany(t, ledger.New(rdb, ledger.Policy{Retention: time.Hour}), 0, 500)
		if n := length(); n != 500 {
			t.Errorf("without a maximum %d of 500 entries", n)
		}
		l := ledger.New(rdb, ledger.Policy{Retention: time.Hour, StreamMax: 200})
		if cut, err := l.Cut(t.Context(), app); err != nil || cut.ID != "" || cut.After("") {
			t.Errorf("%+v, %v, although nothing was removed", cut, err)
		}
		settleMany(t, l, 500, 500)
		if n := length(); n < 200 || n > 200+nodeSlack {
			t.Errorf("%d entries with a maximum of 200", n)
		}
		cut, err := l.Cut(t.Context(), app)
		if err != nil || !cut.ByLength || !cut.After("0-0") || time.Since(cut.Start()) > time.Minute {
			t.Errorf("%+v, %v", cut, err)
		}
	})
}

// TestTrimStream: the results of an app without further outcomes are removed, too.
func TestTrimStream(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		l := ledger.New(rdb, ledger.Policy{Retention: time.Hour, StreamMax: 1000})
		addOld(t, rdb, 500, time.Now().Add(-2*time.Hour))
		if err := l.TrimStream(t.Context(), app); err != nil {
			t.Fatal(err)
		}
		if n := rdb.XLen(t.Context(), ledger.StreamKey(app)).Val(); n > nodeSlack {
			t.Errorf("%d old entries are left", n)
		}
		if cut, err := l.Cut(t.Context(), app); err != nil || cut.ByLength || !cut.After("0-0") {
			t.Errorf("%+v, %v", cut, err)
		}
		if err := l.TrimStream(t.Context(), "wxfedcba9876543210"); err != nil {
			t.Errorf("without a stream: %v", err)
		}
	})
}
