package ratelimit

import (
	"reflect"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/redistest"
)

// TestUsageMany: it returns what Usage returns for each type, used or not.
func TestUsageMany(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		l := NewLimiter(rdb, DefaultConfig(), func(string) map[string]Limit {
			return map[string]Limit{"send:custom": {PerSecond: 100, PerMinute: 1000, PerDay: 5000}, "seccheck:text": {PerDay: 10}}
		})
		for _, typ := range []string{"send:custom", "scheme:generate", "scheme:urllink"} { // the last two share a day
			if _, err := l.Acquire(t.Context(), testApp, typ, nil); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.Learn(t.Context(), testApp, "send:subscribe", Learned{PerDay: 7}); err != nil {
			t.Fatal(err)
		}
		var of []AppType
		var want [][]Usage
		for _, app := range []string{testApp, "wxfedcba9876543210"} {
			for _, typ := range []string{"send:custom", "scheme:generate", "scheme:urllink", "send:subscribe", "seccheck:text", "no:limits"} {
				usage, err := l.Usage(t.Context(), app, typ)
				if err != nil {
					t.Fatal(err)
				}
				of, want = append(of, AppType{app, typ}), append(want, usage)
			}
		}
		got, err := l.UsageMany(t.Context(), of)
		if err != nil {
			t.Fatal(err)
		}
		for i := range of {
			for j := range want[i] { // the reserved instants pass meanwhile
				if want[i][j].Window == PerSecond && len(got[i]) > j {
					want[i][j].Used, got[i][j].Used = 0, 0
				}
			}
			if !reflect.DeepEqual(got[i], want[i]) {
				t.Errorf("%v: got %+v, want %+v", of[i], got[i], want[i])
			}
		}
		if got, err := l.UsageMany(t.Context(), nil); err != nil || len(got) != 0 {
			t.Errorf("of nothing: %v, %v", got, err)
		}
	})
}
