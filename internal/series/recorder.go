package series

import (
	"cmp"
	"context"
	"crypto/rand"
	_ "embed" // the script
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// flushEvery is the interval of the writes, and how much is lost when the process is killed.
	flushEvery = time.Second
	// flushTimeout bounds a write, and by that the end of Run.
	flushTimeout = time.Second
	// clockEvery is how often Redis is asked for its time while there are outcomes.
	clockEvery = 10 * time.Second
	// repeatFor is how long a write without an answer is repeated. Redis knows its number for longer.
	repeatFor, knownFor = 50 * time.Minute, time.Hour
	// maxCounts bounds the memory while Redis is away: some 2 MB.
	maxCounts = 10_000
)

//go:embed add.lua
var addLua string

var addScript = redis.NewScript(addLua)

// Recorder counts outcomes in memory, and adds them to the counts in Redis once a second. Create it
// with NewRecorder. A nil Recorder counts nothing.
//
// A process that is killed loses the outcomes of its last second. While Redis does not answer, the
// counts stay in memory, and are written with their minutes later. A write whose answer was lost is
// repeated, and counts once.
type Recorder struct {
	rdb   redis.UniversalClient
	log   *slog.Logger
	id    string
	begin time.Time    // by the monotonic clock
	epoch atomic.Int64 // the time of Redis at begin, in ns since 1970; at first that of this machine

	mu     sync.Mutex
	counts map[counter]int64 // guarded by mu
	lost   int64             // guarded by mu: outcomes for which there was no room

	flushing sync.Mutex
	// guarded by flushing:
	calls   uint64
	pending map[string]*call // by app: calls that have not been answered
	asked   time.Time        // when Redis was asked for its time
	failed  bool             // the last flush
}

// counter is what is counted.
type counter struct {
	app, typ, outcome string
	errcode           int
	minute            int64 // since 1970
	receipt           bool  // outcome is a receipt, and minute that of the send
}

// table orders outcomes before receipts.
func (c counter) table() string {
	if c.receipt {
		return "receipts"
	}
	return "outcomes"
}

// call is a call of addScript for one app.
type call struct {
	since time.Time
	keys  []string
	args  []any
}

// NewRecorder returns a Recorder. It does no I/O.
func NewRecorder(rdb redis.UniversalClient, log *slog.Logger) *Recorder {
	r := &Recorder{
		rdb: rdb, log: log, id: strings.ToLower(rand.Text()[:10]), begin: time.Now(),
		counts: make(map[counter]int64), pending: make(map[string]*call),
	}
	r.epoch.Store(r.begin.UnixNano())
	return r
}

// Add counts an outcome that Redis has recorded now. It does no I/O.
func (r *Recorder) Add(app, typ, outcome string, errcode int) {
	if r == nil {
		return
	}
	r.add(counter{app: app, typ: typ, outcome: outcome, errcode: errcode, minute: int64(r.now() / time.Minute)})
}

// AddReceipt counts a receipt in the minute and hour in which the outcome of its message was recorded,
// so that the messages of a time can be compared with their receipts. Those of times whose counts are
// no longer kept are left out. It does no I/O.
func (r *Recorder) AddReceipt(app, typ, receipt string, sent time.Time) {
	if r == nil {
		return
	}
	if at := time.Duration(sent.UnixNano()); at > 0 && at > r.now()-Hour.Keep() {
		r.add(counter{app: app, typ: typ, outcome: receipt, minute: int64(at / time.Minute), receipt: true})
	}
}

// now returns the time of Redis since 1970.
func (r *Recorder) now() time.Duration { return time.Duration(r.epoch.Load()) + time.Since(r.begin) }

func (r *Recorder) add(c counter) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.counts) >= maxCounts && r.counts[c] == 0 {
		if c.errcode = OtherErrCode; r.counts[c] == 0 && len(r.counts) >= 2*maxCounts {
			r.lost++
			return
		}
	}
	r.counts[c]++
}

// Run writes the counts once a second until ctx ends, and then for a last time.
func (r *Recorder) Run(ctx context.Context) {
	ticker := time.NewTicker(flushEvery)
	defer ticker.Stop()
	_ = r.askTime(ctx) // the next flush asks again
	for {
		select {
		case <-ticker.C:
			r.Flush(ctx)
		case <-ctx.Done():
			r.Flush(context.WithoutCancel(ctx))
			return
		}
	}
}

// Flush writes what was counted. What cannot be written stays for the next call.
func (r *Recorder) Flush(ctx context.Context) {
	if r == nil {
		return
	}
	r.flushing.Lock()
	defer r.flushing.Unlock()
	r.take()
	if len(r.pending) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, flushTimeout)
	defer cancel()
	var err error
	if time.Since(r.asked) >= clockEvery {
		err = r.askTime(ctx)
	}
	if err == nil {
		err = r.write(ctx, addScript.EvalSha)
	}
	if redis.HasErrorPrefix(err, "NOSCRIPT") {
		err = r.write(ctx, addScript.Eval)
	}
	if err != nil && !r.failed {
		r.log.Warn("outcomes over time could not be written; they are kept in memory, and written later", slog.Any("err", err))
	}
	r.failed = err != nil
	r.drop(time.Now())
}

// askTime takes over the clock of Redis.
func (r *Recorder) askTime(ctx context.Context) error {
	now, err := r.rdb.Time(ctx).Result()
	if err != nil {
		return fmt.Errorf("read the time of Redis: %w", err)
	}
	r.epoch.Store(now.Add(-time.Since(r.begin)).UnixNano())
	r.asked = time.Now()
	return nil
}

// take makes calls of the counts, except for apps that have an unanswered call: a call must not
// change, or it could not be repeated.
func (r *Recorder) take() {
	r.mu.Lock()
	counts, lost := r.counts, r.lost
	if len(counts) == 0 && lost == 0 {
		r.mu.Unlock()
		return
	}
	r.counts, r.lost = make(map[counter]int64, min(len(counts), 256)), 0
	for c, n := range counts {
		if r.pending[c.app] != nil {
			r.counts[c] += n
			delete(counts, c)
		}
	}
	r.mu.Unlock()
	if lost > 0 {
		r.log.Warn("outcomes are missing in the counts over time: too many kinds while Redis was away", slog.Int64("outcomes", lost))
	}
	sorted := slices.SortedFunc(maps.Keys(counts), func(a, b counter) int {
		return cmp.Or(cmp.Compare(a.app, b.app), cmp.Compare(a.minute, b.minute), strings.Compare(a.table(), b.table()))
	})
	for len(sorted) > 0 {
		app := sorted[0].app
		n := slices.IndexFunc(sorted, func(c counter) bool { return c.app != app })
		if n < 0 {
			n = len(sorted)
		}
		r.pending[app] = r.newCall(app, sorted[:n], counts)
		sorted = sorted[n:]
	}
}

// newCall returns the call that adds the counts of an app, which are sorted by minute and table.
func (r *Recorder) newCall(app string, sorted []counter, counts map[counter]int64) *call {
	r.calls++
	c := &call{since: time.Now(), keys: []string{callKey(app, r.id)}}
	c.args = []any{r.calls, knownFor.Milliseconds(), keepHash(Minute).Milliseconds(), keepHash(Hour).Milliseconds(), OtherErrCode, maxKinds}
	size := -1 // where the number of a minute's counts is in args
	for i, k := range sorted {
		if i == 0 || k.minute != sorted[i-1].minute || k.receipt != sorted[i-1].receipt {
			at, key := time.Unix(k.minute*60, 0).UTC(), seriesKey
			if k.receipt {
				key = receiptsKey
			}
			c.keys = append(c.keys, key(app, Minute, at), key(app, Hour, at))
			c.args = append(c.args, k.minute%10, at.Hour(), 0)
			size = len(c.args) - 1
		}
		n, _ := c.args[size].(int)
		c.args[size] = n + 1
		c.args = append(c.args, "|"+k.typ+"|"+k.outcome+"|", k.errcode, counts[k])
	}
	return c
}

// keepHash returns for how long a hash is kept from its first field on.
func keepHash(s Step) time.Duration { return s.Keep() + s.span() }

// callKey returns the key of the number of a recorder's last call for an app.
func callKey(app, recorder string) string { return "wxcourier:{" + app + "}:series:call:" + recorder }

// write sends the calls, and forgets those that were answered. It returns the first error.
func (r *Recorder) write(ctx context.Context, eval func(context.Context, redis.Scripter, []string, ...any) *redis.Cmd) error {
	replies := make(map[string]*redis.Cmd, len(r.pending))
	_, err := r.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for app, c := range r.pending {
			replies[app] = eval(ctx, p, c.keys, c.args...)
		}
		return nil
	})
	for app, reply := range replies {
		if reply.Err() == nil && reply.Val() != nil {
			delete(r.pending, app)
		}
	}
	if err != nil {
		return fmt.Errorf("write the outcomes over time: %w", err)
	}
	return nil
}

// drop gives up calls that were repeated for too long.
func (r *Recorder) drop(now time.Time) {
	for app, c := range r.pending {
		if now.Sub(c.since) > repeatFor {
			delete(r.pending, app)
			r.log.Warn("outcomes of a second are missing in the counts over time", slog.String("app", app))
		}
	}
}
