package ratelimit

import (
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/redistest"
)

// TestALowerCountOfWeChat: WeChat's count replaces a higher one of ours only if it was asked for
// when no call of ours could be missing in it.
func TestALowerCountOfWeChat(t *testing.T) {
	const settle = 45 * time.Second
	type query struct {
		used  int64
		after time.Duration // from the last grant to the query; negative: the limiter is not told when
		want  int64
	}
	for _, tt := range []struct {
		name  string
		start string // of ten calls
		asks  []query
	}{
		{"cleared", noon, []query{{0, settle, 0}}},
		{"the last call may be under way", noon, []query{{0, 0, 10}, {0, settle - time.Millisecond, 10}, {0, settle, 0}}},
		{"asked at an unknown time", noon, []query{{0, -1, 10}}},
		{"a hundredth too low", noon, []query{{9, settle, 10}, {8, settle, 9}}},
		{"as many", noon, []query{{10, settle, 10}}},
		{"more", noon, []query{{12, 0, 12}, {3, settle, 4}}},
		{"at midnight", "2026-12-01T23:59:14+08:00", []query{{0, settle, 10}}},
		{"on the next day", "2026-12-01T23:59:14+08:00", []query{{0, time.Minute, 0}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
				l, now := overriding(rdb, map[string]Limit{templateSends: {PerDay: 100}}), at(t, tt.start)
				l.now = func() int64 { return now }
				l.mono = l.now
				for range 10 {
					if d, err := l.Try(t.Context(), testApp, templateSends); err != nil || d.Permit == nil {
						t.Fatalf("%+v, %v", d, err)
					}
				}
				for i, ask := range tt.asks {
					learned := Learned{PerDay: 100, UsedToday: ask.used}
					if ask.after >= 0 {
						now = at(t, tt.start) + ask.after.Microseconds()
						learned.Asked, learned.Settle = time.UnixMicro(now), settle
					}
					if err := l.Learn(t.Context(), testApp, templateSends, learned); err != nil {
						t.Fatal(err)
					}
					if used := usageOf(t, l, templateSends)[PerDay]; used != ask.want {
						t.Errorf("query %d: %d used, want %d", i+1, used, ask.want)
					}
				}
			})
		})
	}
}

// TestALowerCountAndOldPermits: permits from before the lower count are not subtracted from it,
// and later ones are counted on top of it.
func TestALowerCountAndOldPermits(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		l, now := overriding(rdb, map[string]Limit{templateSends: {PerDay: 5}}), at(t, noon)
		l.now = func() int64 { return now }
		l.mono = l.now
		var old []*Permit
		for range 5 {
			d, err := l.Try(t.Context(), testApp, templateSends)
			if err != nil || d.Permit == nil {
				t.Fatalf("%+v, %v", d, err)
			}
			old = append(old, d.Permit)
		}
		now += time.Minute.Microseconds()
		if err := l.Learn(t.Context(), testApp, templateSends, Learned{UsedToday: 2, Asked: time.UnixMicro(now), Settle: time.Second}); err != nil {
			t.Fatal(err)
		}
		for _, p := range old {
			if err := l.Release(t.Context(), p); err != nil {
				t.Fatal(err)
			}
		}
		if used := usageOf(t, l, templateSends)[PerDay]; used != 3 {
			t.Errorf("%d used, want WeChat's 2 and one for its error", used)
		}
		granted := 0
		for range 5 {
			if d, err := l.Try(t.Context(), testApp, templateSends); err == nil && d.Permit != nil {
				granted++
			}
		}
		if granted != 2 {
			t.Errorf("%d permits, want the 2 that are left", granted)
		}
	})
}

// TestALowerCountAfterAnEarlierVersion: an earlier version stored no time of its grants. The first
// query only notes the time, and one that comes long enough after it is believed.
func TestALowerCountAfterAnEarlierVersion(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		l, now := overriding(rdb, map[string]Limit{templateSends: {PerDay: 5}}), at(t, noon)
		l.now = func() int64 { return now }
		l.mono = l.now
		if d, err := l.Try(t.Context(), testApp, templateSends); err != nil || d.Permit == nil {
			t.Fatalf("%+v, %v", d, err)
		}
		if err := rdb.HDel(t.Context(), stateKey(testApp, templateSends), "counted", "counted_seq").Err(); err != nil {
			t.Fatal(err)
		}
		for i, want := range []int64{1, 0} {
			now += time.Minute.Microseconds()
			if err := l.Learn(t.Context(), testApp, templateSends, Learned{Asked: time.UnixMicro(now), Settle: time.Minute}); err != nil {
				t.Fatal(err)
			}
			if used := usageOf(t, l, templateSends)[PerDay]; used != want {
				t.Errorf("query %d: %d used, want %d", i+1, used, want)
			}
		}
	})
}

// TestALowerCountOfAGroup: only a lower count is stored, since the sum over the members may be too
// high.
func TestALowerCountOfAGroup(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		l, now := overriding(rdb, map[string]Limit{"links": {PerDay: 10}}), at(t, noon)
		l.now = func() int64 { return now }
		l.mono = l.now
		for _, typ := range []string{"scheme:generate", "scheme:urllink", "scheme:generate"} {
			if d, err := l.Try(t.Context(), testApp, typ); err != nil || d.Permit == nil {
				t.Fatalf("%+v, %v", d, err)
			}
			now += time.Second.Microseconds()
		}
		groups := l.SharedDays(testApp, "scheme:urllink")
		if len(groups) != 1 || groups[0].Name != "links" || len(l.SharedDays(testApp, templateSends)) != 0 {
			t.Fatalf("groups %+v", groups)
		}
		for _, ask := range []struct {
			after      time.Duration
			used, want int64
		}{{0, 0, 3}, {time.Minute, 6, 3}, {time.Minute, 0, 0}} {
			now += ask.after.Microseconds()
			if err := l.LearnShared(t.Context(), testApp, "links", Learned{UsedToday: ask.used, Asked: time.UnixMicro(now), Settle: time.Minute}); err != nil {
				t.Fatal(err)
			}
			if used := usageOf(t, l, "scheme:urllink")[PerDay]; used != ask.want {
				t.Errorf("%d used after %+v", used, ask)
			}
		}
	})
}

// TestSpent: the usage shows when a limit is spent, for bulk tasks or for all, and when its count
// starts again. The limiter knows which apps were refused permits for it.
func TestSpent(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		l := NewLimiter(rdb, DefaultConfig(), func(string) map[string]Limit {
			return map[string]Limit{templateSends: {PerDay: 5}, "qrcode": {Total: 1}}
		}, WithReserve(func(string) float64 { return 0.2 }))
		day := func() Usage {
			t.Helper()
			usage, err := l.Usage(t.Context(), testApp, templateSends)
			if err != nil || len(usage) != 1 {
				t.Fatalf("%+v, %v", usage, err)
			}
			return usage[0]
		}
		for n := range 6 {
			u := day()
			if u.Spent() != (n == 5) || u.SpentForBulk() != (n >= 4) || u.Reserved != 1 {
				t.Errorf("after %d calls: %+v", n, u)
			}
			if left := time.Until(u.Ends); left <= 0 || left > 24*time.Hour+2*midnightSkew {
				t.Errorf("ends in %v", left)
			}
			if n == 5 {
				break
			}
			if bulk := acquire(t, l, templateSends).Bulk(); bulk != (n < 4) {
				t.Errorf("permit %d: for bulk %v", n+1, bulk)
			}
			if apps := l.ExhaustedApps(); (len(apps) == 1) != (n == 4) {
				t.Errorf("exhausted after %d calls: %v", n+1, apps)
			}
		}
		if u := day(); u.Quiet || time.Since(u.Counted) > time.Minute || u.Granted.IsZero() {
			t.Errorf("right after a grant: %+v", u)
		}
		acquire(t, l, "code:wxacode")
		usage, err := l.Usage(t.Context(), testApp, "code:qrcode")
		if err != nil {
			t.Fatal(err)
		}
		total := slices.IndexFunc(usage, func(u Usage) bool { return u.Window == Total })
		if total < 0 || !usage[total].Spent() || !usage[total].Ends.IsZero() || usage[total].SpentForBulk() {
			t.Errorf("of the lifetime: %+v", usage)
		}
	})
}
