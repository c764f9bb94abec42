package audit

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/redistest"
)

// TestList: entries are listed from the newest to the oldest, page by page, filtered by app and by
// content, each with its time.
func TestList(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		ctx := t.Context()
		if all, next, err := List(ctx, rdb, Query{}); err != nil || all == nil || len(all) != 0 || next != "" {
			t.Fatalf("without an entry: %v %q %v", all, next, err)
		}
		for n := range 1203 { // more than two pages of the stream
			e := Entry{By: "key:crm", Via: API, Action: Hold, App: fmt.Sprintf("wx%016x", n%3), Target: fmt.Sprint(n), Count: int64(n), Note: "注"}
			if n == 600 {
				e.App, e.Action = "", SignIn
			}
			if err := Append(ctx, rdb, e); err != nil {
				t.Fatal(err)
			}
		}
		all, next, err := List(ctx, rdb, Query{Limit: 2000})
		if err != nil || len(all) != 1203 || next != "" {
			t.Fatalf("all: %d entries, then %q, %v", len(all), next, err)
		}
		want := Entry{ID: all[0].ID, At: all[0].At, By: "key:crm", Via: API, Action: Hold, App: "wx0000000000000002", Target: "1202", Count: 1202, Note: "注"}
		if all[0] != want || all[1202].Target != "0" {
			t.Errorf("the newest: %+v, the oldest: %+v", all[0], all[1202])
		}
		if age := time.Since(all[0].At); age < -time.Minute || age > time.Minute {
			t.Errorf("the newest was written %v ago", age)
		}
		q := Query{
			Apps: func(app string) bool { return app == "wx0000000000000000" }, Limit: 100,
			Match: func(e Entry) bool { return e.Count%2 == 0 },
		}
		var got []string
		for pages := 1; ; pages++ {
			some, next, err := List(ctx, rdb, q)
			if err != nil || pages > 3 {
				t.Fatal(pages, err)
			}
			for _, e := range some {
				got = append(got, e.Target)
			}
			if q.Before = next; next == "" {
				break
			}
		}
		if len(got) != 200 || got[0] != "1200" || got[99] != "606" || got[100] != "594" || got[199] != "0" { // without the 600
			t.Errorf("%d of one app, every second: %v", len(got), got)
		}
		exact, next, err := List(ctx, rdb, Query{Limit: 1203})
		if len(exact) != 1203 || next != "" || err != nil {
			t.Errorf("as many as there are: %d, then %q, %v", len(exact), next, err)
		}
		for _, id := range []string{"x", "1", "1-", "-1-1", "1-1 ", "+", "99999999999999999999-1"} {
			if _, _, err := List(ctx, rdb, Query{Before: id}); !errors.Is(err, ErrPosition) {
				t.Errorf("before %q: %v", id, err)
			}
		}
	})
}

// TestAppendKeepsTheLast: the stream keeps the last entries, and an entry is not longer than its limit.
func TestAppendKeepsTheLast(t *testing.T) {
	rdb := redistest.Start(t).Client(t)
	ctx := t.Context()
	if err := Append(ctx, rdb, Entry{By: "a@b", Note: strings.Repeat("长", 400) + "\xff"}); err != nil {
		t.Fatal(err)
	}
	all, _, err := List(ctx, rdb, Query{})
	if err != nil || len(all) != 1 || all[0].Note != strings.Repeat("长", maxText/3)+"…" {
		t.Fatal(all, err)
	}
	p := rdb.Pipeline()
	for range MaxEntries + 500 {
		p.XAdd(ctx, &redis.XAddArgs{Stream: Key, Values: []any{"entry", "{}"}})
	}
	if _, err := p.Exec(ctx); err != nil {
		t.Fatal(err)
	}
	if err := Append(ctx, rdb, Entry{By: "last"}); err != nil {
		t.Fatal(err)
	}
	if n := rdb.XLen(ctx, Key).Val(); n < MaxEntries || n > MaxEntries+200 {
		t.Errorf("%d entries are kept", n)
	}
	if all, _, err = List(ctx, rdb, Query{Limit: 1}); err != nil || all[0].By != "last" {
		t.Error(all, err)
	}
}

// TestRecordWithoutRedis: a change is not undone by an audit that cannot be written; the log says so.
func TestRecordWithoutRedis(t *testing.T) {
	rdb := redistest.Start(t).Client(t)
	if err := rdb.ConfigSet(t.Context(), "maxmemory", "1").Err(); err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	Record(t.Context(), rdb, slog.New(slog.NewTextHandler(&text, nil)), Entry{By: "key:crm", Action: Release, App: "wx1"})
	if got := text.String(); !strings.Contains(got, "action=release app=wx1 by=key:crm") || !strings.Contains(got, "OOM") {
		t.Errorf("the log: %s", got)
	}
}
