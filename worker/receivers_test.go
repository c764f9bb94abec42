package worker_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/sandbox"
	"github.com/wxcourier/wxcourier/tasks"
)

// TestABusyReceiverHoldsNoSlots: in a lane of 16 slots, 60 messages to one openid are enqueued
// before 60 messages to others. The messages to the others do not wait for them, and the
// messages to the one openid follow each other without pauses of seconds.
func TestABusyReceiverHoldsNoSlots(t *testing.T) {
	const latency, n = 100 * time.Millisecond, 60
	onEach(t, sandbox.Options{Latency: latency}, func(t *testing.T, r *rig) {
		for i := range n {
			r.submit(message(fmt.Sprintf("busy%d", i), "busybody"))
		}
		for i := range n {
			r.submit(message(fmt.Sprintf("m%d", i), fmt.Sprintf("o%d", i)))
		}
		began := time.Now()
		r.replica(map[string]ratelimit.Limit{tasks.TypeSubscribe: {Concurrency: 16}})
		for i := range n {
			r.outcome(fmt.Sprintf("m%d", i))
		}
		if sent := r.wx.Delivered(app, "busybody", ""); sent > n/2 {
			t.Errorf("%d of %d messages to one openid were sent before 60 to others", sent, n)
		}
		for i := range n {
			if got := r.outcome(fmt.Sprintf("busy%d", i)); got.Outcome != tasks.OutcomeAccepted || got.Attempts != 1 {
				t.Errorf("%s: %s after %d attempts", got.ID, got.Outcome, got.Attempts)
			}
		}
		if took, most := time.Since(began), 6*n*latency; took > most { // as long as they take one after another, on a loaded machine
			t.Errorf("%d messages to one openid took %v, want at most %v", n, took, most)
		}
		if d := r.wx.Duplicates(); len(d) > 0 {
			t.Errorf("delivered twice: %+v", d)
		}
	})
}
