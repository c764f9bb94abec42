package heartbeat

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/redistest"
)

// TestBeater: a process is in the list while its beater runs, with what it tells, and is removed at the end.
func TestBeater(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		only := func() (r Replica) {
			t.Helper()
			all, err := List(t.Context(), rdb)
			if err != nil || len(all) > 1 {
				t.Fatal(all, err)
			}
			if len(all) == 1 {
				r = all[0]
			}
			return r
		}
		b := NewBeater(rdb, Gateway, "g1", func(r *Replica) { r.Apps = 7 }, slog.New(slog.DiscardHandler))
		ctx, end := context.WithCancel(t.Context())
		stopping, done := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(done)
			b.Run(ctx, stopping)
		}()
		redistest.Until(t, 20*time.Second, "it is listed", func() bool { return only().ID == "g1" })
		if r := only(); r.Kind != Gateway || r.Apps != 7 || r.Host == "" || r.PID == 0 || r.Version == "" || r.Stopping || r.Configuration != nil {
			t.Errorf("%+v", r)
		}
		b.SetConfiguration(Configuration{Hash: "abc"})
		redistest.Until(t, 20*time.Second, "its configuration", func() bool {
			c := only().Configuration
			return c != nil && c.Hash == "abc"
		})
		close(stopping)
		redistest.Until(t, 20*time.Second, "it stops", func() bool { return only().Stopping })
		end()
		<-done
		if r := only(); r.ID != "" {
			t.Errorf("after the end: %+v", r)
		}
	})
}

// TestAnEntryWithoutKind is one of a worker of an earlier version.
func TestAnEntryWithoutKind(t *testing.T) {
	_, rdb := redistest.Mini(t)
	if err := beat.Run(t.Context(), rdb, []string{key}, "old", `{"id":"old","host":"h"}`, keep.Milliseconds()).Err(); err != nil {
		t.Fatal(err)
	}
	if all, err := List(t.Context(), rdb); err != nil || len(all) != 1 || all[0].Kind != Worker {
		t.Error(all, err)
	}
}
