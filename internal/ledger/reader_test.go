package ledger_test

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/internal/redistest"
)

func tend(t *testing.T, rdb redis.UniversalClient, most int64, readers ...ledger.ReaderStart) {
	t.Helper()
	if err := ledger.TendReaders(t.Context(), rdb, app, most, readers); err != nil {
		t.Fatal(err)
	}
}

func readers(t *testing.T, rdb redis.UniversalClient) map[string]ledger.ReaderStatus {
	t.Helper()
	all, err := ledger.Readers(t.Context(), rdb, app)
	if err != nil {
		t.Fatal(err)
	}
	byName := make(map[string]ledger.ReaderStatus)
	for _, r := range all {
		byName[r.Name] = r
	}
	return byName
}

// move lets a reader be done with the entries up to the given number of them.
func move(t *testing.T, rdb redis.UniversalClient, name string, count int) {
	t.Helper()
	r := ledger.NewReader(rdb, ledger.ReaderConfig{App: app, Name: name, Owner: "test", Lease: time.Hour})
	state, wait, err := r.Acquire(t.Context())
	if err != nil || wait != 0 {
		t.Fatal(wait, err)
	}
	page, _, err := ledger.Page(t.Context(), rdb, app, state.Cursor, int64(count))
	if err != nil || len(page) != count {
		t.Fatalf("%d entries, %v", len(page), err)
	}
	if err := r.Advance(t.Context(), ledger.Step{Cursor: page[count-1].ID, Passed: count}); err != nil {
		t.Fatal(err)
	}
}

// TestReadersHoldTrimmingBack: what the slowest reader is not done with outlives the maximum length,
// up to the hard one; the lag stays exact while entries are removed.
func TestReadersHoldTrimmingBack(t *testing.T) {
	rdb := redistest.Start(t).Client(t) // miniredis ignores LIMIT
	l := ledger.New(rdb, ledger.Policy{Retention: time.Hour, StreamMax: 200})
	length := func() int { return int(rdb.XLen(t.Context(), ledger.StreamKey(app)).Val()) }
	settleMany(t, l, 0, 100)
	slow, fast := ledger.ReaderStart{Name: "slow"}, ledger.ReaderStart{Name: "fast"}
	tend(t, rdb, 1000, slow, fast)
	settleMany(t, l, 100, 700)
	if n := length(); n < 700 || n > 700+nodeSlack {
		t.Errorf("%d entries, 700 of them wanted", n)
	}
	move(t, rdb, "fast", 700)
	move(t, rdb, "slow", 300)
	settleMany(t, l, 800, 160)
	if got := readers(t, rdb); got["slow"].Lag != 560 || got["fast"].Lag != 160 || got["slow"].Oldest.IsZero() {
		t.Errorf("%+v", got)
	}
	if n := length(); n < 560 || n > 560+2*nodeSlack {
		t.Errorf("%d entries, 560 of them wanted", n)
	}
	if cut, err := l.Cut(t.Context(), app); err != nil || !cut.ByLength || cut.After(readers(t, rdb)["slow"].Cursor) {
		t.Errorf("%+v, %v", cut, err)
	}

	settleMany(t, l, 960, 700) // 1,260 that slow is not done with
	if n := length(); n < 1000 || n > 1000+nodeSlack {
		t.Errorf("%d entries with a hard maximum of 1000", n)
	}
	if cut, err := l.Cut(t.Context(), app); err != nil || !cut.After(readers(t, rdb)["slow"].Cursor) || cut.After(readers(t, rdb)["fast"].Cursor) {
		t.Errorf("%+v, %v", cut, err)
	}

	slow.Off = true
	tend(t, rdb, 1000, slow, fast)
	move(t, rdb, "fast", 860)
	settleMany(t, l, 1660, 16*20)
	if n := length(); n < 200 || n > 320+nodeSlack {
		t.Errorf("%d entries, though only fast holds back 320", n)
	}
	fast.Off = true
	tend(t, rdb, 1000, slow, fast)
	settleMany(t, l, 1980, 16)
	if n := length(); n > 200+nodeSlack {
		t.Errorf("%d entries, though no reader holds any back", n)
	}
	if got := readers(t, rdb)["fast"]; got.Lag > int64(length()) || got.Lag < 200 {
		t.Errorf("%+v", got)
	}
}

// TestReadersOutliveRetention: entries older than the retention stay while a reader is not done with
// them, and go when it is.
func TestReadersOutliveRetention(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		l := ledger.New(rdb, ledger.Policy{Retention: time.Hour})
		old := time.Now().Add(-2 * time.Hour)
		addOld(t, rdb, 1, old.Add(-time.Hour))
		tend(t, rdb, 10_000, ledger.ReaderStart{Name: "crm"})
		addOld(t, rdb, 500, old)
		settleMany(t, l, 0, 32)
		if err := l.TrimStream(t.Context(), app); err != nil {
			t.Fatal(err)
		}
		if n := rdb.XLen(t.Context(), ledger.StreamKey(app)).Val(); n < 532 {
			t.Errorf("%d of 532 entries are left", n)
		}
		if cut, err := l.Cut(t.Context(), app); err != nil || cut.After(readers(t, rdb)["crm"].Cursor) {
			t.Errorf("%+v, %v", cut, err)
		}
		move(t, rdb, "crm", 510)
		if err := l.TrimStream(t.Context(), app); err != nil {
			t.Fatal(err)
		}
		if n := rdb.XLen(t.Context(), ledger.StreamKey(app)).Val(); n < 22 || n > 22+nodeSlack {
			t.Errorf("%d entries, 22 of them not done", n)
		}
		if got := readers(t, rdb)["crm"]; got.Lag != 22 {
			t.Errorf("%+v", got)
		}
	})
}

// TestMoveReader: a reader can be moved back and forward, and its lag is exact.
func TestMoveReader(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		base := time.Now().Add(-time.Hour).Truncate(time.Second)
		addOld(t, rdb, 2500, base)
		tend(t, rdb, 10_000, ledger.ReaderStart{Name: "crm"}, ledger.ReaderStart{Name: "since", Since: base.Add(-500 * time.Millisecond)})
		if got := readers(t, rdb); got["crm"].Lag != 0 || got["since"].Lag != 500 {
			t.Errorf("%+v", got)
		}
		for _, tt := range []struct {
			since time.Time
			want  int64
		}{{base.Add(-time.Hour), 2500}, {base.Add(-2300 * time.Millisecond), 2300}, {base.Add(-time.Millisecond), 1}, {base, 0}} {
			n, err := ledger.MoveReader(t.Context(), rdb, app, "crm", tt.since)
			if got := readers(t, rdb)["crm"]; err != nil || n != tt.want || got.Lag != tt.want {
				t.Errorf("%v: %d, %v, %+v, want %d", tt.since, n, err, got, tt.want)
			}
		}
		if _, err := ledger.MoveReader(t.Context(), rdb, app, "other", base); err == nil {
			t.Error("a reader that does not exist was moved")
		}
	})
}

// TestBefore: the id before an entry's is between it and all earlier ones.
func TestBefore(t *testing.T) {
	for id, want := range map[string]string{"5-3": "5-2", "5-0": "4-18446744073709551615", "0-0": "0-0", "x": "0-0"} {
		if got := ledger.Before(id); got != want {
			t.Errorf("before %s: %s, want %s", id, got, want)
		}
	}
}
