package ledger_test

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/internal/redistest"
)

// TestRestoredRequests: Open decides on a restored record as on the original one, and at once,
// since its runner is known to be dead.
func TestRestoredRequests(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		l := newLedger(rdb, time.Hour)
		now := time.Now()
		for _, tt := range []struct {
			name   string
			first  time.Duration // how long ago
			dedupe time.Duration
			want   ledger.Admission
		}{
			{"unsafe to repeat", 0, 0, ledger.Unknown},
			{"within its time", 5 * time.Minute, 10 * time.Minute, ledger.Proceed},
			{"past its time", 11 * time.Minute, 10 * time.Minute, ledger.Unknown},
		} {
			ref := ledger.Ref{App: app, ID: tt.name[:4] + tt.dedupe.String() + tt.first.String()}
			u := ledger.PendingRequest{Queue: queue, State: "waiting", Attempts: 2, First: now.Add(-tt.first), Since: now}
			if err := l.Restore(t.Context(), ref, u); err != nil {
				t.Fatal(err)
			}
			claim := must[ledger.Claim](t)(l.Mark(t.Context(), ref, queue, "waiting"))
			if claim.New || claim.Done || claim.Queue != queue {
				t.Errorf("%s: marked as %+v", tt.name, claim)
			}
			o := opening("new-1")
			o.Dedupe, o.Marked = tt.dedupe, true
			got := must[ledger.OpenResult](t)(l.Open(t.Context(), ref, o))
			if got.Admission != tt.want || !got.Doubt || got.Enqueued.UnixMicro() != u.First.UnixMicro() {
				t.Errorf("%s: %+v", tt.name, got)
			}
			if tt.want == ledger.Proceed && got.Attempts != 3 {
				t.Errorf("%s: attempt %d", tt.name, got.Attempts)
			}
		}
	})
}

func TestRestoreKeepsMarksAndRecords(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		l, ref := newLedger(rdb, time.Minute), ledger.Ref{App: app, ID: "1"}
		must[ledger.Claim](t)(l.Mark(t.Context(), ref, queue, "waiting"))
		if err := l.Restore(t.Context(), ref, ledger.PendingRequest{Queue: queue, Attempts: 1, First: time.Now(), Since: time.Now()}); err != nil {
			t.Fatal(err)
		}
		if n := rdb.Exists(t.Context(), ledger.TaskKey(app, "1")).Val(); n != 0 {
			t.Error("a marked task got a record")
		}
		for range 2 { // marked, and opened before
			if got := must[ledger.OpenResult](t)(l.Open(t.Context(), ref, opening("a"))); got.Admission != ledger.Proceed || got.Doubt {
				t.Errorf("%+v", got)
			}
			if err := l.Restore(t.Context(), ref, ledger.PendingRequest{Queue: queue, Attempts: 1, First: time.Now(), Since: time.Now()}); err != nil {
				t.Fatal(err)
			}
		}
	})
}
