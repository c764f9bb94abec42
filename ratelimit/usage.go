package ratelimit

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/calendar"
	"github.com/wxcourier/wxcourier/internal/exists"
)

// Usage is how much of one window is used now, by our own count. Calls of other systems are
// included only as far as WeChat has reported them ([Limiter.Learn]).
type Usage struct {
	Name    string  `json:"name"` // the row: the type, or a group that it shares
	Window  Span    `json:"window"`
	Limit   int64   `json:"limit"`             // documented or configured, before the margin; 0: none
	Learned int64   `json:"learned,omitempty"` // reported by WeChat; 0: none. The lower of the two is in force
	Used    int64   `json:"used"`              // for a second: the reserved instants that are still to come
	Factor  float64 `json:"factor"`            // the share of the pace in force after refusals; 1: all of it

	Reserved int64     `json:"reserved,omitempty"` // the last part of a day's limit, which is reserved for urgent tasks
	Counted  time.Time `json:"counted,omitzero"`   // when the count last rose: a permit was granted, or WeChat reported more; zero: never
	Granted  time.Time `json:"-"`                  // when a permit was last granted; zero: never
	Ends     time.Time `json:"ends,omitzero"`      // when the count starts again: with the next day; zero for other windows
	Quiet    bool      `json:"-"`                  // no permit that was granted may still be used
}

// Spent reports whether the limit of a day or of the app's lifetime is used up: nothing is sent
// before it ends, is raised, or WeChat's lower count is learned.
func (u Usage) Spent() bool { return u.lasting() && u.Used >= u.Effective() }

// SpentForBulk reports whether bulk tasks may not use what is left of a day's limit.
func (u Usage) SpentForBulk() bool {
	return u.lasting() && u.Reserved > 0 && u.Used >= u.Effective()-u.Reserved
}

// lasting reports whether a full window stops calls for longer than a minute.
func (u Usage) lasting() bool { return u.Window == PerDay || u.Window == Total }

// Effective returns the limit in force: the lower of the configured and the learned one.
func (u Usage) Effective() int64 { return lowerLimit(u.Limit, u.Learned) }

// rowState is the state of a row in Redis, as far as Usage needs it.
type rowState struct {
	next  int64 // the instant after the last reserved one, µs
	date  int64 // days since 1970, in China
	used  int64 // calls on that date
	total int64

	factor, slowed                            int64 // share of the pace in thousandths; when it was set, µs
	learnedSpacing, learnedMinute, learnedDay int64 // as the scripts use them: µs, calls, calls
	learnedCalls, learnedPer                  int64 // as WeChat reported them: calls per µs
	counted, told                             int64 // when a permit was last granted, and when WeChat's count replaced ours, µs

	log []string // "bucket:count"
}

// stateFields are the fields of a row's hash, in the order of rowState.fields.
func stateFields() []any {
	return []any{
		"next", "date", "used", "total", "factor", "slowed",
		"learned_spacing", "learned_minute", "learned_day", "learned_calls", "learned_per",
		"counted", "told_at",
	}
}

func (s *rowState) fields() []*int64 {
	return []*int64{
		&s.next, &s.date, &s.used, &s.total, &s.factor, &s.slowed,
		&s.learnedSpacing, &s.learnedMinute, &s.learnedDay, &s.learnedCalls, &s.learnedPer,
		&s.counted, &s.told,
	}
}

// Usage reads how much of the type's windows is used, in the order of [Limiter.Windows].
// Windows that only WeChat reported come with those of their row. Permits that this limiter
// holds unused are not counted as used; those of other limiters are.
func (l *Limiter) Usage(ctx context.Context, app, typ string) ([]Usage, error) {
	q := l.usageQuery(AppType{app, typ})
	now, states, err := l.readStates(ctx, q)
	if err != nil {
		return nil, err
	}
	return l.usages(q, states, now)
}

// readStates reads the states of a query's rows, and Redis' time (µs).
func (l *Limiter) readStates(ctx context.Context, q usageQuery) (now int64, states []rowState, err error) {
	reply, err := usageScript.Run(ctx, l.rdb, q.keys, l.usageArgs()...).Result()
	if err != nil {
		return 0, nil, fmt.Errorf("usage of %s of %s: %w", q.of.Type, q.of.App, err)
	}
	return q.decode(reply)
}

// AppType is one type of an app.
type AppType struct{ App, Type string }

// UsageMany is [Limiter.Usage] for many types of many apps, in at most four round trips. The
// result has the order of the arguments.
func (l *Limiter) UsageMany(ctx context.Context, of []AppType) ([][]Usage, error) {
	queries := make([]usageQuery, len(of))
	for i, at := range of {
		queries[i] = l.usageQuery(at)
	}
	indexes := make([]int, len(of))
	for i := range indexes {
		indexes[i] = i
	}
	keys := func(i int) []string { return queries[i].keys }
	used, err := exists.Filter(ctx, l.rdb, indexes, keys, exists.MaxKeys/4, 1) // most types share one row at most: four keys
	if err != nil {
		return nil, fmt.Errorf("usage of %d types: %w", len(of), err)
	}
	replies, err := l.queryUsage(ctx, queries, used, usageScript.EvalSha)
	if redis.HasErrorPrefix(err, "NOSCRIPT") {
		replies, err = l.queryUsage(ctx, queries, used, usageScript.Eval)
	}
	if err != nil {
		return nil, fmt.Errorf("usage of %d types: %w", len(of), err)
	}
	all := make([][]Usage, len(of))
	for i, q := range queries { // as if nothing were stored: nothing was used or learned
		if all[i], err = l.usages(q, make([]rowState, len(q.rows)), time.Now().UnixMicro()); err != nil {
			return nil, err
		}
	}
	for n, i := range used {
		now, states, err := queries[i].decode(replies[n].Val())
		if err != nil {
			return nil, err
		}
		if all[i], err = l.usages(queries[i], states, now); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// usageQuery is the query for the usage of one type: its rows, with two keys each.
type usageQuery struct {
	of   AppType
	rows []pacedRow
	keys []string
}

func (l *Limiter) usageQuery(of AppType) usageQuery {
	q := usageQuery{of: of, rows: l.planFor(of.App, of.Type).rows}
	for _, r := range q.rows {
		q.keys = append(q.keys, stateKey(of.App, r.name), logKey(of.App, r.name))
	}
	return q
}

func (l *Limiter) usageArgs() []any { return append([]any{l.now()}, stateFields()...) }

// sendScript sends a script, by its hash or in full.
type sendScript func(ctx context.Context, c redis.Scripter, keys []string, args ...any) *redis.Cmd

// queryUsage sends the queries with these indexes in one pipeline.
func (l *Limiter) queryUsage(ctx context.Context, queries []usageQuery, indexes []int, send sendScript) ([]*redis.Cmd, error) {
	if len(indexes) == 0 {
		return nil, nil
	}
	replies := make([]*redis.Cmd, len(indexes))
	_, err := l.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		args := l.usageArgs()
		for n, i := range indexes {
			replies[n] = send(ctx, p, queries[i].keys, args...)
		}
		return nil
	})
	return replies, err
}

// decode decodes the script's reply: Redis' time (µs), and the states of the rows.
func (q usageQuery) decode(value any) (now int64, states []rowState, err error) {
	failed := func(err error) (int64, []rowState, error) {
		return 0, nil, fmt.Errorf("usage of %s of %s: %w", q.of.Type, q.of.App, err)
	}
	reply, _ := value.([]any)
	if len(reply) != 1+2*len(q.rows) {
		return failed(fmt.Errorf("%d values in reply to %d rows", len(reply), len(q.rows)))
	}
	head, err := integers(reply[:1])
	if err != nil {
		return failed(err)
	}
	states = make([]rowState, len(q.rows))
	for i := range q.rows {
		if states[i], err = decodeState(reply[1+2*i], reply[2+2*i]); err != nil {
			return failed(err)
		}
	}
	return head[0], states, nil
}

// usages returns the usage of the windows of rows in these states, at now (µs).
func (l *Limiter) usages(q usageQuery, states []rowState, now int64) ([]Usage, error) {
	var all []Usage
	for i, r := range q.rows {
		s := states[i]
		unspent := l.unusedCount(q.of.App, l.typesOf(r.name))
		for _, w := range s.windows(r) {
			used, err := s.usedOf(w.Window, r, now)
			if err != nil {
				return nil, fmt.Errorf("usage of %s of %s: %w", r.name, q.of.App, err)
			}
			if w.Window != PerSecond {
				used = max(0, used-unspent)
			}
			w.Used, w.Factor = used, 1
			if w.Window == PerSecond || w.Window == PerMinute {
				w.Factor = float64(s.factorAt(now)) / 1000
			}
			s.setTimes(&w, now, l.reserve(q.of.App))
			all = append(all, w)
		}
	}
	return all, nil
}

// permitLife is longer than the time from the grant of a permit to the last moment at which it
// may be used.
const permitLife = 2 * time.Second

// setTimes sets what matters once a limit of the day or of the lifetime is used up.
func (s rowState) setTimes(u *Usage, now int64, reserve float64) {
	if !u.lasting() {
		return
	}
	if last := max(s.counted, s.told); last > 0 {
		u.Counted = time.UnixMicro(last)
	}
	if s.counted > 0 {
		u.Granted = time.UnixMicro(s.counted)
	}
	u.Quiet = now-s.counted > permitLife.Microseconds()
	if u.Window == PerDay {
		midnight := (dateOf(now)+1)*day.Microseconds() - calendar.UTCOffset.Microseconds()
		u.Ends = time.UnixMicro(midnight + midnightSkew.Microseconds())
		u.Reserved = u.Effective() - int64(float64(u.Effective())*(1-reserve)+1e-9)
	}
}

// typesOf returns the types that share a row.
func (l *Limiter) typesOf(row string) []string {
	for _, r := range l.rows {
		if r.Name == row && r.Members != nil {
			return r.Members
		}
	}
	return []string{row}
}

// unusedCount returns the number of leased permits of some types that are not handed out.
func (l *Limiter) unusedCount(app string, types []string) (n int64) {
	for _, typ := range types {
		n += int64(l.poolOf(app, typ).unusedCount())
	}
	return n
}

func decodeState(hash, log any) (rowState, error) {
	values, ok1 := hash.([]any)
	entries, ok2 := log.([]any)
	var s rowState
	into := s.fields()
	if !ok1 || !ok2 || len(values) != len(into) {
		return rowState{}, fmt.Errorf("script reply: %T, %T where a row was expected", hash, log)
	}
	for i, to := range into {
		text, _ := values[i].(string)
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return rowState{}, fmt.Errorf("row: %w", err)
		}
		*to = n
	}
	for _, e := range entries {
		text, _ := e.(string)
		s.log = append(s.log, text)
	}
	return s, nil
}

// windows returns the row's windows, configured or learned, the shortest first.
func (s rowState) windows(r pacedRow) []Usage {
	learned := map[Span]int64{PerDay: s.learnedDay}
	if s.learnedSpacing > 0 {
		learned[PerSecond] = max(1, s.learnedCalls*1_000_000/s.learnedPer)
	}
	if s.learnedMinute > 0 {
		learned[PerMinute] = s.learnedCalls
	}
	var all []Usage
	for _, u := range []Usage{
		{Name: r.name, Window: PerSecond, Limit: int64(r.limit.PerSecond)},
		{Name: r.name, Window: PerMinute, Limit: int64(r.limit.PerMinute)},
		{Name: r.name, Window: PerDay, Limit: r.limit.PerDay},
		{Name: r.name, Window: Total, Limit: r.limit.Total},
	} {
		if u.Learned = learned[u.Window]; u.Effective() > 0 {
			all = append(all, u)
		}
	}
	return all
}

// usedOf returns how much of one window is used at now (µs).
func (s rowState) usedOf(span Span, r pacedRow, now int64) (int64, error) {
	switch span {
	case PerSecond:
		step, _, _ := s.inForce(r, now)
		return max(0, (s.next-now)/step), nil
	case PerMinute:
		var sum int64
		for _, e := range s.log {
			b, n, err := parseLogEntry(e)
			if err != nil {
				return 0, err
			}
			if (b+1)*bucket.Microseconds()+bucketTTL.Microseconds() > now {
				sum += n
			}
		}
		return sum, nil
	case PerDay:
		if s.date < dateOf(now) {
			return 0, nil
		}
		return s.used, nil
	case Total:
		return s.total, nil
	}
	return 0, fmt.Errorf("no such window: %q", span)
}
