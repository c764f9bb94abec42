package ledger_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/internal/redisinfo"
	"github.com/wxcourier/wxcourier/internal/redistest"
)

// BenchmarkScripts measures what the steps of a task cost Redis, in CPU time. Each task is marked for a
// receiver of its own, half of them in a batch, then opened, and settled. mark50 are those that are marked
// in pipelines of 500, the others take a round trip each.
//
//	go test -run - -bench Scripts -benchtime 5x ./internal/ledger
func BenchmarkScripts(b *testing.B) {
	const n = 20_000
	rdb := redistest.Start(b).Client(b)
	l := ledger.New(rdb, ledger.Policy{Retention: time.Hour, StreamMax: 100_000, DeadAfter: time.Minute, LostLimit: 3, IndexOpenIDs: true})
	steps := []string{"mark50", "mark", "open", "settle"}
	took := make([]float64, len(steps))
	for b.Loop() {
		if err := rdb.FlushDB(b.Context()).Err(); err != nil {
			b.Fatal(err)
		}
		refs, requests := make([]ledger.Ref, 2*n), make([]ledger.MarkRequest, 2*n)
		for i := range refs {
			refs[i] = ledger.Ref{App: app, ID: fmt.Sprintf("order-%08d-ready", i)}
			if i%2 == 1 {
				refs[i].Batch = "spring"
			}
			requests[i] = ledger.MarkRequest{
				Ref: refs[i], Queue: queue, State: "waiting", Enqueued: time.Now(), Digest: "aB-_09", Receiver: fmt.Sprintf("oABCDEF0123456789abc%08d", i),
			}
		}
		for step, do := range []func(){
			func() { benchMark(b, l, requests[:n], 500) },
			func() { benchMark(b, l, requests[n:], 1) },
			func() { benchOpen(b, l, requests) },
			func() { benchSettle(b, l, refs) },
		} {
			before := cpuTime(b, rdb)
			do()
			took[step] += cpuTime(b, rdb) - before
		}
	}
	for step, per := range []float64{n, n, 2 * n, 2 * n} {
		b.ReportMetric(took[step]/per/float64(b.N), steps[step]+"-µs")
	}
}

func benchMark(b *testing.B, l *ledger.Ledger, requests []ledger.MarkRequest, atOnce int) {
	for ; len(requests) > 0; requests = requests[atOnce:] {
		for _, m := range l.MarkMany(b.Context(), requests[:atOnce]) {
			if m.Err != nil || !m.New {
				b.Fatal(m)
			}
		}
	}
}

func benchOpen(b *testing.B, l *ledger.Ledger, requests []ledger.MarkRequest) {
	for i := range requests {
		m := &requests[i]
		o, err := l.Open(b.Context(), m.Ref, ledger.OpenRequest{Runner: "lphkcnfrfh-123456", Queue: queue, Fenced: true, Marked: true, Receiver: m.Receiver})
		if err != nil || o.Admission != ledger.Proceed {
			b.Fatal(o, err)
		}
	}
}

func benchSettle(b *testing.B, l *ledger.Ledger, refs []ledger.Ref) {
	result := []byte(`{"outcome":"accepted","text":"` + strings.Repeat("x", 250) + `"}`)
	for _, ref := range refs {
		s, err := l.Settle(b.Context(), ref, ledger.SettleRequest{Outcome: "accepted", Result: result, Queue: queue, NoBlob: true})
		if err != nil || !s.Written {
			b.Fatal(s, err)
		}
	}
}

// cpuTime returns how many µs of CPU Redis has used.
func cpuTime(b *testing.B, rdb redis.UniversalClient) float64 {
	info, err := redisinfo.Read(b.Context(), rdb, "cpu")
	if err != nil {
		b.Fatal(err)
	}
	used, ok := info.CPU()
	if !ok {
		b.Fatal("Redis does not report its CPU time")
	}
	return float64(used.Microseconds())
}
