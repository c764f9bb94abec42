package resultlog_test

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/internal/resultlog"
	"github.com/wxcourier/wxcourier/tasks"
)

func TestNewestFirst(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		reader := resultlog.NewReader(rdb, slog.Default())
		apps := []string{appB, appA, appA}
		var want []string
		for i := range 150 { // more than one read of each app; pairs of entries at the same time
			app := appA
			if i%2 == 1 {
				app = appB
			}
			record(t, rdb, app, fmt.Sprintf("%d-0", 1000+i/2), fmt.Sprint(i))
			want = append(want, fmt.Sprint(i))
		}
		slices.Reverse(want)
		q := resultlog.NewestQuery{Apps: apps, Limit: 7}
		var got []string
		for {
			page, err := reader.Newest(t.Context(), q)
			if err != nil || len(page.Entries) > q.Limit {
				t.Fatalf("%d entries, %v", len(page.Entries), err)
			}
			if len(got) == 14 { // results that are recorded meanwhile do not move the pages
				record(t, rdb, appA, "*", "late")
			}
			got = append(got, ids(page.Entries)...)
			if q.Before = page.Next; q.Before == "" {
				if !page.Back.IsZero() {
					t.Errorf("the last page looked back to %v only", page.Back)
				}
				break
			}
			if last := page.Entries[len(page.Entries)-1]; page.Back.UnixMilli() != int64(last.At.MS) {
				t.Errorf("looked back to %v, the last entry is of %v", page.Back, last.At)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		// Nothing matches: the scan is bounded, and goes on from there.
		page, err := reader.Newest(t.Context(), resultlog.NewestQuery{Apps: apps, Scan: 20, Contains: []string{resultlog.Field("id", "129")}})
		if err != nil || len(page.Entries) != 0 || page.Scanned != 20 || page.Next == "" {
			t.Fatalf("bounded scan: %+v, %v", page, err)
		}
		page, err = reader.Newest(t.Context(), resultlog.NewestQuery{Apps: apps, Before: page.Next, Contains: []string{resultlog.Field("id", "129")}})
		if err != nil || !slices.Equal(ids(page.Entries), []string{"129"}) || page.Next != "" {
			t.Errorf("the rest of the scan: %+v, %v", page, err)
		}
		page, err = reader.Newest(t.Context(), resultlog.NewestQuery{
			Apps: apps, Since: time.UnixMilli(1070), Contains: []string{resultlog.NumberField("errcode", 0)},
			Match: func(r *tasks.Result) bool { return r.App == appB },
		})
		if got := ids(page.Entries); err != nil || !slices.Equal(got, []string{"149", "147", "145", "143", "141"}) || page.Back.UnixMilli() != 1070 {
			t.Errorf("since and match: %v, back %v, %v", got, page.Back, err)
		}
		page, err = reader.Newest(t.Context(), resultlog.NewestQuery{Apps: apps, Before: resultlog.Until(time.UnixMilli(1002)), Limit: 1000})
		for _, e := range page.Entries {
			if e.At.MS >= 1002 {
				t.Errorf("until 1002 has %+v", e.At)
			}
		}
		if err != nil || len(page.Entries) == 0 {
			t.Errorf("until: %+v, %v", page, err)
		}
		if page, err = reader.Newest(t.Context(), resultlog.NewestQuery{}); err != nil || len(page.Entries) != 0 || page.Next != "" {
			t.Errorf("no apps: %+v, %v", page, err)
		}
		for _, bad := range []string{"x", "1-2", "1-2-wx", "01-2-" + appA, "1--" + appA, "-1-2-" + appA} {
			if _, err := reader.Newest(t.Context(), resultlog.NewestQuery{Apps: apps, Before: bad}); !errors.Is(err, resultlog.ErrCursor) {
				t.Errorf("cursor %q: %v", bad, err)
			}
		}
	})
}
