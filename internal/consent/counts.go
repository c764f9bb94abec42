package consent

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/calendar"
)

// A Check is what a check of the consent before a send found, or how the call then turned out.
type Check string

// The checks. Before each send one of the first six counts; one of the others may follow.
// After the waited of observe a would_stop may follow, once it is known whether the news came.
const (
	CheckAllowed   Check = "allowed"    // the person has consent
	CheckUnknown   Check = "unknown"    // nothing is known that speaks against it
	CheckWaited    Check = "waited"     // enforce hands the task back for some seconds, and observe sends it: news may be on their way
	CheckStopped   Check = "stopped"    // enforce: refused without a call
	CheckWouldStop Check = "would_stop" // observe: sent, though enforce would have refused it
	CheckError     Check = "error"      // Redis did not answer: sent

	CheckRight      Check = "right"      // after would_stop: 43101
	CheckWrong      Check = "wrong"      // after would_stop: WeChat accepted the message
	CheckMissed     Check = "missed"     // after allowed: 43101
	CheckUnforeseen Check = "unforeseen" // after unknown: 43101
)

// Checks returns all checks.
func Checks() []Check {
	return []Check{
		CheckAllowed, CheckUnknown, CheckWaited, CheckStopped, CheckWouldStop, CheckError,
		CheckRight, CheckWrong, CheckMissed, CheckUnforeseen,
	}
}

const (
	// keepCounts is how long the counts of a day are kept after its last check.
	keepCounts = 35 * 24 * time.Hour
	// MaxDays is the number of days that Counts reads at most.
	MaxDays = 35
	// flushEvery is the interval of the writes, and how much is lost when the process is killed.
	flushEvery = 2 * time.Second
	// flushTimeout bounds a write.
	flushTimeout = 2 * time.Second
)

// Recorder counts checks by day, in memory, and adds them to the counts in Redis every 2 s. Create it
// with NewRecorder. A count whose answer was lost may be added twice.
type Recorder struct {
	rdb redis.UniversalClient
	log *slog.Logger
	now func() time.Time

	mu     sync.Mutex
	counts map[counter]int64 // guarded by mu
	failed bool              // guarded by mu: the last write
}

// counter is what is counted.
type counter struct {
	app, day, typ string
	check         Check
}

// NewRecorder creates a Recorder. It does no I/O. A nil clock is time.Now.
func NewRecorder(rdb redis.UniversalClient, log *slog.Logger, clock func() time.Time) *Recorder {
	if clock == nil {
		clock = time.Now
	}
	return &Recorder{rdb: rdb, log: log, now: clock, counts: make(map[counter]int64)}
}

// Add counts a check. It does no I/O.
func (r *Recorder) Add(app, typ string, check Check) {
	c := counter{app: app, day: dayOf(r.now()), typ: typ, check: check}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.counts[c]++
}

// dayOf returns the day of a time as the keys have it.
func dayOf(t time.Time) string { return t.In(calendar.Shanghai()).Format(time.DateOnly) }

// Run writes the counts until ctx ends, and then for a last time.
func (r *Recorder) Run(ctx context.Context) {
	ticker := time.NewTicker(flushEvery)
	defer ticker.Stop()
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
	r.mu.Lock()
	counts := r.counts
	r.counts = make(map[counter]int64)
	r.mu.Unlock()
	if len(counts) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, flushTimeout)
	defer cancel()
	replies := make(map[counter]*redis.IntCmd, len(counts))
	pipe := r.rdb.Pipeline()
	for c, n := range counts {
		key := countsKey(c.app, c.day)
		replies[c] = pipe.HIncrBy(ctx, key, c.typ+"|"+string(c.check), n)
		pipe.Expire(ctx, key, keepCounts)
	}
	_, err := pipe.Exec(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	for c, reply := range replies {
		if reply.Err() != nil {
			r.counts[c] += counts[c]
		}
	}
	if err != nil && !r.failed {
		r.log.Warn("the counts of consent checks could not be written; they are kept in memory, and written later", slog.Any("err", err))
	}
	r.failed = err != nil
}

// Day is how often the checks of a day had which result.
type Day struct {
	Day    string          `json:"day"`
	Type   string          `json:"type"`
	Checks map[Check]int64 `json:"checks"`
}

// Counts returns the checks of the last days of an app, today included, the newest first. Days and
// types without a check are left out.
func Counts(ctx context.Context, rdb redis.UniversalClient, app string, now time.Time, days int) ([]Day, error) {
	all, err := countsOf(ctx, rdb, []string{app}, now, days)
	return all[app], err
}

// countsOf is Counts for several apps, in one round trip.
func countsOf(ctx context.Context, rdb redis.UniversalClient, apps []string, now time.Time, days int) (map[string][]Day, error) {
	if len(apps) == 0 {
		return nil, nil
	}
	days = min(days, MaxDays)
	replies := make([]*redis.MapStringStringCmd, 0, len(apps)*days)
	_, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, app := range apps {
			for i := range days {
				replies = append(replies, p.HGetAll(ctx, countsKey(app, dayOf(now.AddDate(0, 0, -i)))))
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the counts of consent checks: %w", err)
	}
	all := make(map[string][]Day, len(apps))
	for n, reply := range replies {
		app, day := apps[n/days], dayOf(now.AddDate(0, 0, -n%days))
		all[app] = append(all[app], parseDay(day, reply.Val())...)
	}
	return all, nil
}

// parseDay returns the checks of a day, by type.
func parseDay(day string, counts map[string]string) []Day {
	types := make(map[string]map[Check]int64)
	for field, text := range counts {
		typ, check, _ := strings.Cut(field, "|")
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			continue // not ours
		}
		if types[typ] == nil {
			types[typ] = make(map[Check]int64)
		}
		types[typ][Check(check)] = n
	}
	all := make([]Day, 0, len(types))
	for _, typ := range slices.Sorted(maps.Keys(types)) {
		all = append(all, Day{Day: day, Type: typ, Checks: types[typ]})
	}
	return all
}

// Total adds the checks of days.
func Total(days []Day) map[Check]int64 {
	total := make(map[Check]int64)
	for _, d := range days {
		for check, n := range d.Checks {
			total[check] += n
		}
	}
	return total
}
