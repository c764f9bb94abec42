package pushes_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/wechat/callback"
)

// TestAnyOrder: answers are recorded, receipts come (none, one, or two that differ), early ones are tried
// and records expire in a random order, by several goroutines. A message has a receipt exactly if one was
// pushed for its msgid, its record is there, and that receipt is one of those pushed.
func TestAnyOrder(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		for seed := range uint64(3) {
			must(t, rdb.FlushDB(t.Context()).Err())
			anyOrder(newWorld(t, rdb), rand.New(rand.NewPCG(seed, 1))) //nolint:gosec // repeatable
		}
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func anyOrder(w *world, random *rand.Rand) {
	const messages = 40
	kinds := []callback.Delivery{callback.Delivered, callback.Blocked, callback.Failed}
	want, expired := make(map[string][]tasks.DeliveryReceipt), make(map[string]bool)
	var steps []func()
	for i := range messages {
		id, person := fmt.Sprint(i), fmt.Sprint("oPerson", i%7)
		m := newMessage(id, person)
		m.Batch = "spring"
		w.open(m)
		steps = append(steps, func() { w.settle(m, tasks.OutcomeAccepted, fmt.Sprint(1000+i)) })
		for range random.IntN(3) {
			kind := kinds[random.IntN(len(kinds))]
			want[id] = append(want[id], tasks.DeliveryReceipt(kind))
			p := push(person, "T1", fmt.Sprint(1000+i), kind)
			for range 1 + random.IntN(2) { // the same push may come again
				steps = append(steps, func() { w.handle(p) })
			}
		}
		if random.IntN(10) == 0 {
			expired[id] = true
		}
		steps = append(steps, func() { w.handle(push(person, "T1", fmt.Sprint(5000+i), callback.Delivered)) }, // of another program
			func() { w.later(time.Second) })
	}
	random.Shuffle(len(steps), func(i, j int) { steps[i], steps[j] = steps[j], steps[i] })
	var running sync.WaitGroup
	for g := range 4 {
		running.Go(func() {
			for i := g; i < len(steps); i += 4 {
				steps[i]()
			}
		})
	}
	running.Wait()
	for range 70 {
		w.later(time.Minute)
	}
	for id := range expired {
		must(w.t, w.rdb.Del(w.t.Context(), ledger.TaskKey(app, id)).Err())
	}
	w.compare(messages, want, expired)
}

// compare checks the records, the stream, the batch and the calls against the receipts that were pushed.
func (w *world) compare(messages int, want map[string][]tasks.DeliveryReceipt, expired map[string]bool) {
	w.t.Helper()
	joined, wanted := 0, 0
	inRecord := make(map[string]tasks.DeliveryReceipt)
	for i := range messages {
		id := fmt.Sprint(i)
		if len(want[id]) > 0 {
			wanted++
		}
		if expired[id] {
			continue
		}
		got := w.record(id)
		if inRecord[id] = got.Receipt; (got.Receipt != "") != (len(want[id]) > 0) || got.MsgID != fmt.Sprint(1000+i) {
			w.t.Errorf("%s has %q of %v", id, got.Receipt, want[id])
		}
	}
	counted := make(map[string]int64)
	for _, r := range w.stream() {
		if r.Receipt == "" {
			continue
		}
		joined++
		counted["receipt:"+string(r.Receipt)]++
		one := false
		for _, kind := range want[r.ID] {
			one = one || kind == r.Receipt
		}
		if !one || !expired[r.ID] && inRecord[r.ID] != r.Receipt {
			w.t.Errorf("the stream has %s of %s, pushed were %v, the record has %q", r.Receipt, r.ID, want[r.ID], inRecord[r.ID])
		}
	}
	counts, err := w.ledger.Batch(w.t.Context(), app, "spring")
	must(w.t, err)
	for name, n := range counted {
		if counts[name] != n {
			w.t.Errorf("the batch counts %d of %s, not %d", counts[name], name, n)
		}
	}
	if joined != wanted || len(w.receipts) != wanted || len(w.outcomes) != 0 || w.early() != 0 {
		w.t.Errorf("%d entries, %d calls, %d resolved and %d early of %d messages with receipts", joined, len(w.receipts), len(w.outcomes), w.early(), wanted)
	}
}
