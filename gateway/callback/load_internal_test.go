package callback

import (
	"fmt"
	"net/http"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wxcourier/wxcourier/internal/redistest"
)

// TestLoad measures: CALLBACK_LOAD=5000 go test -run TestLoad -v ./gateway/callback sends that many
// pushes a second for CALLBACK_SECONDS (10), each at its time, to a receiver on a real Redis. Without it,
// it sends some hundred and checks that each was stored and handled once.
func TestLoad(t *testing.T) {
	rate, seconds, tune := 400, 1, quick()
	if text := os.Getenv("CALLBACK_LOAD"); text != "" {
		var err error
		if rate, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
		seconds, tune = 10, defaultTuning()
		if text := os.Getenv("CALLBACK_SECONDS"); text != "" {
			if seconds, err = strconv.Atoi(text); err != nil {
				t.Fatal(err)
			}
		}
	} else {
		t.Parallel()
	}
	h := newHarness(t, redistest.Start(t).Client(t), tune, nil)
	h.start()
	total, clients := rate*seconds, 64
	bodies := make([]sealed, total)
	keys, _ := keysOf(app)
	for i := range bodies {
		query, body, err := keys.Seal([]byte(receipt(i+1)), "gh_1", time.Now())
		if err != nil {
			t.Fatal(err)
		}
		bodies[i] = sealed{"/callback/" + app + "?" + query.Encode(), body}
	}
	took := make([]time.Duration, total)
	var next, bad atomic.Int64
	var all sync.WaitGroup
	began := time.Now()
	for range clients {
		all.Go(func() {
			for i := int(next.Add(1)) - 1; i < total; i = int(next.Add(1)) - 1 {
				due := began.Add(time.Duration(i) * time.Second / time.Duration(rate))
				time.Sleep(time.Until(due)) // the pace of what is measured
				if status, _ := h.post(bodies[i].path, bodies[i].body); status != http.StatusOK {
					bad.Add(1)
				}
				took[i] = time.Since(due) // a late start counts
			}
		})
	}
	all.Wait()
	elapsed := time.Since(began)
	redistest.Until(t, long, "all are handled", func() bool { return len(h.handler.pushes()) >= total && h.waiting(app) == 0 })
	if err := onceEach(h, total); err != nil || bad.Load() > 0 {
		t.Error(err, bad.Load(), "refused")
	}
	slices.Sort(took)
	t.Logf("%d pushes in %v: %.0f a second; from the due time to the answer p50 %v, p99 %v, max %v; handled after %v",
		total, elapsed.Round(time.Millisecond), float64(total)/elapsed.Seconds(), took[total/2], took[total*99/100], took[total-1], time.Since(began).Round(time.Millisecond))
}

type sealed struct {
	path string
	body []byte
}

// onceEach reports whether each msgid was handled once.
func onceEach(h *harness, total int) error {
	seen := make(map[string]bool)
	for _, p := range h.handler.pushes() {
		if seen[p.MsgID] {
			return fmt.Errorf("%s was handled twice", p.MsgID)
		}
		seen[p.MsgID] = true
	}
	if len(seen) != total {
		return fmt.Errorf("%d of %d were handled", len(seen), total)
	}
	return nil
}
