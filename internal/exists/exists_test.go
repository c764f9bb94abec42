package exists_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/exists"
	"github.com/wxcourier/wxcourier/internal/redistest"
)

// TestFilter: of 2,000 items with two keys each, those are returned that have one of them.
func TestFilter(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		items := make([]int, 2000)
		for i := range items {
			items[i] = i
		}
		for key, item := range map[string]int{"a": 3, "b": 7, "a2": 1999} {
			rdb.Set(t.Context(), fmt.Sprintf("{%d}%c", item, key[0]), "", 0)
		}
		keys := func(i int) []string { return []string{fmt.Sprintf("{%d}a", i), fmt.Sprintf("{%d}b", i)} }
		got, err := exists.Filter(t.Context(), rdb, items, keys, exists.MaxKeys/2, 22, 1)
		if err != nil || !slices.Equal(got, []int{3, 7, 1999}) {
			t.Errorf("%v, %v", got, err)
		}
		got, err = exists.Filter(t.Context(), rdb, items, keys, 1000)
		if err != nil || len(got) != 2000 {
			t.Errorf("%d items of existing blocks, %v", len(got), err)
		}
		if got, err := exists.Filter(t.Context(), rdb, items[10:20], keys, 5, 1); err != nil || len(got) > 0 {
			t.Errorf("%v, %v", got, err)
		}
	})
}
