package resultlog_test

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/internal/resultlog"
	"github.com/wxcourier/wxcourier/tasks"
)

func TestMain(m *testing.M) { os.Exit(redistest.Run(m)) }

const (
	appA = "wx00000000000000aa"
	appB = "wx00000000000000bb"
)

// record adds a result to an app's stream, as the entry with an id ("*": the next one).
func record(t testing.TB, rdb redis.UniversalClient, app, entry, id string) {
	t.Helper()
	r := tasks.Result{ID: id, App: app, Type: tasks.TypeCustom, State: tasks.StateDone, Outcome: tasks.OutcomeAccepted, FinishedAt: time.Now()}
	err := rdb.XAdd(t.Context(), &redis.XAddArgs{Stream: ledger.StreamKey(app), ID: entry, Values: []any{"result", r.Encode()}}).Err()
	if err != nil {
		t.Fatal(err)
	}
}

func ids(entries []resultlog.Entry) (all []string) {
	for _, e := range entries {
		all = append(all, e.Result.ID)
	}
	return all
}

func TestPagesMergeAppsByTime(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		reader := resultlog.NewReader(rdb, slog.Default())
		var want []string
		for i := range 130 { // more than one read of each app
			app := appA
			if i%3 == 0 {
				app = appB
			}
			record(t, rdb, app, fmt.Sprintf("%d-0", 1000+i), fmt.Sprint(i))
			want = append(want, fmt.Sprint(i))
		}
		q := resultlog.Query{Apps: []string{appA, appB}, Limit: 7, Scan: 50, From: resultlog.Cursor{}}
		var got []string
		for more := true; more; {
			page, err := reader.Read(t.Context(), q)
			if err != nil {
				t.Fatal(err)
			}
			if len(page.Gaps) > 0 || len(page.Entries) > q.Limit {
				t.Fatalf("gaps %v, %d entries", page.Gaps, len(page.Entries))
			}
			got, more = append(got, ids(page.Entries)...), page.More
			if q.From, err = resultlog.ParseCursor(page.Cursor.String()); err != nil {
				t.Fatal(err)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		// A filter that nothing matches: the scan is bounded, and the cursor advances.
		page, err := reader.Read(t.Context(), resultlog.Query{
			Apps: []string{appA, appB}, Limit: 10, Scan: 20, Match: func(*tasks.Result) bool { return false },
		})
		if err != nil || !page.More || len(page.Entries) != 0 || page.Cursor[appA].MS < 1005 || page.Cursor[appA].MS > 1021 {
			t.Errorf("bounded scan: %+v, %v", page, err)
		}
		page, err = reader.Read(t.Context(), resultlog.Query{
			Apps: []string{appA, appB}, Limit: 10, Scan: 20,
			From: resultlog.Cursor{appA: resultlog.Since(time.UnixMilli(1010)), appB: resultlog.Since(time.UnixMilli(1010))}, Until: time.UnixMilli(1013),
		})
		if got := ids(page.Entries); err != nil || page.More || !slices.Equal(got, []string{"10", "11", "12"}) {
			t.Errorf("since and until: %v more %v, %v", got, page.More, err)
		}
	})
}

// What results.stream_max_len or the retention has removed after the cursor is told, with the
// time to which the stream goes back; without a cursor there is no gap.
func TestGapIsTold(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		reader := resultlog.NewReader(rdb, slog.Default())
		for i := range 2000 {
			record(t, rdb, appA, fmt.Sprintf("%d-0", 1000+i), fmt.Sprint(i))
		}
		if err := ledger.New(rdb, ledger.Policy{Retention: 1000000 * time.Hour, StreamMax: 500}).TrimStream(t.Context(), appA); err != nil {
			t.Fatal(err)
		}
		q := resultlog.Query{Apps: []string{appA}, Limit: 10, Scan: 10}
		page, err := reader.Read(t.Context(), q)
		if err != nil || len(page.Gaps) != 0 || len(page.Entries) != 10 {
			t.Fatalf("without a cursor: %v, %v", page.Gaps, err)
		}
		first := page.Entries[0].At
		q.From = resultlog.Cursor{appA: {MS: 1010}}
		page, err = reader.Read(t.Context(), q)
		if err != nil || len(page.Gaps) != 1 || page.Gaps[0].App != appA || !page.Gaps[0].ByLength || fmt.Sprint(page.Gaps[0].Start.UnixMilli()) != fmt.Sprint(first.MS) {
			t.Errorf("gaps %+v, %v; the stream begins at %v", page.Gaps, err, first)
		}
		q.From = page.Cursor
		if page, err = reader.Read(t.Context(), q); err != nil || len(page.Gaps) != 0 {
			t.Errorf("the gap is told again: %v, %v", page.Gaps, err)
		}
	})
}

// follow collects the ids that a subscription returns, until it has n of them.
func follow(t testing.TB, s *resultlog.Subscription, n int) (got []string, gaps int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for len(got) < n && ctx.Err() == nil {
		entries, missing, err := s.Next(ctx)
		if err != nil {
			continue // Redis is away
		}
		got, gaps = append(got, ids(entries)...), gaps+len(missing)
		if len(entries) == 0 && len(missing) == 0 {
			select {
			case <-s.Changed():
			case <-ctx.Done():
			}
		}
	}
	return got, gaps
}

func TestSubscriptionsFollow(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		f := resultlog.NewFollower(rdb, slog.Default())
		defer f.Close()
		for i := range 2500 { // more than a follower keeps
			record(t, rdb, appA, "*", fmt.Sprint("old", i))
		}
		fresh := f.Subscribe([]string{appA, appB}, resultlog.Cursor{})
		defer fresh.Close()
		if err := fresh.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		all := f.Subscribe([]string{appA, appB}, resultlog.Cursor{appA: {}})
		defer all.Close()
		if err := all.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		var want []string
		for i := range 2400 {
			record(t, rdb, []string{appA, appB}[i%2], "*", fmt.Sprint(i))
			want = append(want, fmt.Sprint(i))
		}
		for name, s := range map[string]*resultlog.Subscription{"new": fresh, "all": all} {
			n := len(want)
			if s == all {
				n += 2500
			}
			got, gaps := follow(t, s, n)
			if gaps > 0 || len(got) != n {
				t.Fatalf("%s: %d results and %d gaps, want %d", name, len(got), gaps, n)
			}
			seen := make(map[string]bool)
			for _, id := range got {
				seen[id] = true
			}
			if s == fresh && slices.ContainsFunc(got, func(id string) bool { return strings.HasPrefix(id, "old") }) || len(seen) != n {
				t.Errorf("%s: %d different results of %d", name, len(seen), n)
			}
		}
		// A position in the middle, from the text of a cursor: exactly the rest.
		middle := f.Subscribe([]string{appA, appB}, maps.Clone(all.Cursor()))
		defer middle.Close()
		record(t, rdb, appB, "*", "last")
		if got, _ := follow(t, middle, 1); !slices.Equal(got, []string{"last"}) {
			t.Errorf("resumed: %v", got)
		}
	})
}

// Redis is asked no more often for a hundred subscriptions than for one.
func TestSubscriptionsShareTheReading(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	perPoll := func(subscriptions int) float64 {
		rdb := server.Client(t)
		f := resultlog.NewFollower(rdb, slog.Default())
		defer f.Close()
		var all []*resultlog.Subscription
		for range subscriptions {
			s := f.Subscribe([]string{appA, appB}, resultlog.Cursor{})
			defer s.Close()
			all = append(all, s)
		}
		for _, s := range all {
			if err := s.Ready(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		counter := redistest.Count(rdb)
		producer := server.Client(t)
		for i := range 5 {
			record(t, producer, appA, "*", fmt.Sprint(i))
			var done sync.WaitGroup
			for _, s := range all {
				done.Go(func() { follow(t, s, 1) })
			}
			done.Wait()
		}
		return float64(counter.Commands()) / float64(counter.Trips())
	}
	one, hundred := perPoll(1), perPoll(100)
	if one != 4 || hundred != 4 { // two commands for each of the two apps, and nothing else
		t.Errorf("%.1f commands a round trip with one subscription, %.1f with a hundred; want 4", one, hundred)
	}
}

// While Redis does not answer nothing is lost: the subscriptions go on where they were.
func TestSubscriptionSurvivesRedis(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
	rdb := server.Client(t)
	f := resultlog.NewFollower(rdb, slog.New(slog.DiscardHandler))
	defer f.Close()
	s := f.Subscribe([]string{appA}, resultlog.Cursor{})
	defer s.Close()
	if err := s.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	record(t, rdb, appA, "*", "before")
	server.Kill()
	server.Restart()
	redistest.Until(t, 20*time.Second, "Redis answers", func() bool { return rdb.Ping(t.Context()).Err() == nil })
	record(t, rdb, appA, "*", "after")
	if got, _ := follow(t, s, 2); !slices.Equal(got, []string{"before", "after"}) {
		t.Errorf("got %v", got)
	}
}

// The streams of the apps are in different slots of a cluster.
func TestPagesOfACluster(t *testing.T) {
	t.Parallel()
	rdb := redistest.StartCluster(t)
	record(t, rdb, appA, "1-0", "a")
	record(t, rdb, appB, "2-0", "b")
	page, err := resultlog.NewReader(rdb, slog.Default()).Read(t.Context(), resultlog.Query{Apps: []string{appA, appB}, Limit: 10, Scan: 10})
	if err != nil || !slices.Equal(ids(page.Entries), []string{"a", "b"}) {
		t.Errorf("%v, %v", page, err)
	}
	f := resultlog.NewFollower(rdb, slog.Default())
	defer f.Close()
	s := f.Subscribe([]string{appA, appB}, resultlog.Cursor{})
	defer s.Close()
	if err := s.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	record(t, rdb, appA, "3-0", "c")
	record(t, rdb, appB, "4-0", "d")
	if got, _ := follow(t, s, 2); len(got) != 2 {
		t.Errorf("followed %v", got)
	}
}

func FuzzParseCursor(f *testing.F) {
	f.Add(resultlog.Cursor{appA: {MS: 1_800_000_000_000, Seq: 3}, appB: {}}.String())
	f.Add("AQ")
	f.Add("\r")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := resultlog.ParseCursor(text)
		if err != nil {
			return
		}
		again, err := resultlog.ParseCursor(c.String())
		if err != nil || !maps.Equal(c, again) {
			t.Errorf("%q: %v, then %v, %v", text, c, again, err)
		}
	})
}
