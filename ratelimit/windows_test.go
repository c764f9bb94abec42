package ratelimit

import (
	"reflect"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/redistest"
)

const testApp = "wx0123456789abcdef"

// windowStore keeps the windows: the model, or the scripts on a Redis. now is Redis' clock, mono
// that of the requesting replica; who names the replica.
type windowStore interface {
	take(now, mono int64, who string, p plan, q request) *grant
	giveBack(now int64, permits []*Permit)
	feedback(now int64, row string)
	loseData()
	crash(who string)
}

// scriptStore runs the scripts for several replicas, with clocks that the test sets.
type scriptStore struct {
	t        testing.TB
	rdb      redis.UniversalClient
	replicas map[string]*Limiter
	clock    int64
	mono     int64
}

func newScriptStore(t testing.TB, rdb redis.UniversalClient) *scriptStore {
	return &scriptStore{t: t, rdb: rdb, replicas: map[string]*Limiter{}}
}

func (s *scriptStore) replica(who string) *Limiter {
	if s.replicas[who] == nil {
		l := NewLimiter(s.rdb, DefaultConfig(), nil)
		l.id, l.now, l.mono = who, func() int64 { return s.clock }, func() int64 { return s.mono }
		s.replicas[who] = l
	}
	return s.replicas[who]
}

func (s *scriptStore) take(now, mono int64, who string, p plan, q request) *grant {
	s.t.Helper()
	s.clock, s.mono = now, mono
	g, err := s.replica(who).take(s.t.Context(), p, q)
	if err != nil {
		s.t.Fatal(err)
	}
	return g
}

func (s *scriptStore) giveBack(now int64, permits []*Permit) {
	s.t.Helper()
	s.clock = now
	if err := s.replica("a").giveBack(s.t.Context(), permits, false); err != nil {
		s.t.Fatal(err)
	}
}

func (s *scriptStore) feedback(now int64, row string) {
	s.t.Helper()
	if err := feedbackScript.Run(s.t.Context(), s.rdb, []string{stateKey(testApp, row)}, now, second.Microseconds()).Err(); err != nil {
		s.t.Fatal(err)
	}
}

func (s *scriptStore) loseData() {
	s.t.Helper()
	if err := s.rdb.FlushAll(s.t.Context()).Err(); err != nil {
		s.t.Fatal(err)
	}
}

func (s *scriptStore) crash(who string) { delete(s.replicas, who) }

// replyOf returns a grant without its terms.
func replyOf(g *grant) takeReply {
	a := takeReply{now: g.now, instants: g.instants, wait: g.wait, window: g.window}
	if len(a.instants) == 0 {
		a.instants = nil
	}
	return a
}

// allOf requests n permits with an unlimited demand.
func allOf(n int) request { return request{n: n, demand: maxPerSecond} }

// eachStore runs fn against the model, miniredis and a real Redis.
func eachStore(t *testing.T, fn func(t *testing.T, k windowStore)) {
	t.Run("model", func(t *testing.T) { fn(t, newModel()) })
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) { fn(t, newScriptStore(t, rdb)) })
}

// planOf returns a plan over limits named a, b, …
func planOf(margin float64, limits ...Limit) plan {
	l := &Limiter{margin: margin, reserve: func(string) float64 { return 0.25 }}
	for i, lim := range limits {
		name := string(rune('a' + i))
		l.rows = append(l.rows, Row{Name: name, Limit: lim, Members: []string{"t"}})
	}
	p := l.planFor(testApp, "t")
	p.rows = p.rows[1:] // "t" has no limits of its own
	return p
}

// at parses a time by Redis' clock, in µs.
func at(t *testing.T, s string) int64 {
	t.Helper()
	v, err := time.Parse("2006-01-02T15:04:05.999999Z07:00", s)
	if err != nil {
		t.Fatal(err)
	}
	return v.UnixMicro()
}

const noon = "2026-12-01T12:00:00+08:00"

func ms(n int64) int64 { return n * 1000 }

// step is one request at a time after the start, and the expected reply.
type step struct {
	after  time.Duration // since the start
	who    string        // the replica; "" means a
	n      int           // permits requested
	give   int           // instead of a request: give back the n-th granted permit, from 1
	grants []int64       // ms after the start
	wait   time.Duration
	window Window
}

var windowTable = []struct {
	name   string
	start  string
	margin float64
	limits []Limit
	steps  []step
}{
	{
		name: "seconds are reserved a tenth apart and at most half a second ahead", start: noon,
		limits: []Limit{{PerSecond: 10}},
		steps: []step{
			{n: 1, grants: []int64{0}},
			{n: 3, grants: []int64{100, 200, 300}},
			{n: 20, grants: []int64{400, 500}},
			{n: 1, wait: 100 * time.Millisecond, window: Window{"a", PerSecond, 10}},
			{after: 250 * time.Millisecond, n: 2, grants: []int64{600, 700}},
			{after: 5 * time.Second, n: 1, grants: []int64{5000}},
		},
	},
	{
		name: "the margin increases the spacing", start: noon, margin: 0.2, limits: []Limit{{PerSecond: 10}},
		steps: []step{{n: 3, grants: []int64{0, 125, 250}}},
	},
	{
		name: "one a second", start: noon, margin: 0.2, limits: []Limit{{PerSecond: 1}},
		steps: []step{
			{n: 2, grants: []int64{0}},
			{n: 1, wait: 750 * time.Millisecond, window: Window{"a", PerSecond, 1}},
			{after: 750 * time.Millisecond, n: 1, grants: []int64{1250}},
		},
	},
	{
		name: "only the last instant is given back", start: noon, limits: []Limit{{PerSecond: 10}},
		steps: []step{
			{n: 3, grants: []int64{0, 100, 200}},
			{give: 2},
			{n: 1, grants: []int64{300}},
			{give: 4},
			{n: 1, grants: []int64{300}},
		},
	},
	{
		name: "a minute's allowance at once, and again when its bucket has passed", start: noon, margin: 0.2,
		limits: []Limit{{PerMinute: 5}},
		steps: []step{
			{after: 30 * time.Millisecond, n: 9, grants: []int64{30, 30, 30, 30}},
			{after: 10 * time.Second, n: 1, wait: 50*time.Second + 200*time.Millisecond, window: Window{"a", PerMinute, 5}},
			{after: 60*time.Second + 199*time.Millisecond, n: 1, wait: time.Millisecond, window: Window{"a", PerMinute, 5}},
			{after: 60*time.Second + 200*time.Millisecond, n: 1, grants: []int64{60200}},
		},
	},
	{
		name: "a minute's count given back is free at once", start: noon, limits: []Limit{{PerMinute: 2}},
		steps: []step{
			{n: 1, grants: []int64{0}},
			{after: 2 * time.Second, n: 1, grants: []int64{2000}},
			{after: 3 * time.Second, give: 2},
			{after: 4 * time.Second, n: 2, grants: []int64{4000}},
			{after: 61 * time.Second, give: 1},
			{after: 61 * time.Second, n: 2, grants: []int64{61000}},
		},
	},
	{
		name: "a day is used up until two seconds past midnight in China", start: "2026-12-01T23:00:00+08:00",
		limits: []Limit{{PerDay: 2}},
		steps: []step{
			{n: 3, grants: []int64{0, 0}},
			{n: 1, wait: time.Hour + midnightSkew, window: Window{"a", PerDay, 2}},
			{after: time.Hour, n: 1, wait: midnightSkew, window: Window{"a", PerDay, 2}},
			{after: time.Hour + midnightSkew, n: 9, grants: []int64{3602000, 3602000}},
		},
	},
	{
		name: "around midnight a call counts on both days", start: "2026-12-01T23:59:59+08:00",
		limits: []Limit{{PerDay: 3}},
		steps: []step{
			{n: 1, grants: []int64{0}},
			{after: time.Second, n: 1, grants: []int64{1000}},
			{after: 4 * time.Second, n: 3, grants: []int64{4000}},
		},
	},
	{
		name: "a day's count given back, also over midnight", start: "2026-12-01T23:59:59+08:00",
		limits: []Limit{{PerDay: 1}},
		steps: []step{
			{n: 2, grants: []int64{0}},
			{after: 500 * time.Millisecond, give: 1},
			{after: 600 * time.Millisecond, n: 2, grants: []int64{600}},
			{after: 1100 * time.Millisecond, give: 2},
			{after: 1200 * time.Millisecond, n: 2, grants: []int64{1200}},
		},
	},
	{
		name: "days without calls", start: noon, limits: []Limit{{PerDay: 1}},
		steps: []step{
			{n: 1, grants: []int64{0}},
			{after: 72 * time.Hour, n: 2, grants: []int64{72 * 3600_000}},
		},
	},
	{
		name: "a lifetime's total never comes back by itself, but can be given back", start: noon,
		limits: []Limit{{Total: 1}},
		steps: []step{
			{n: 2, grants: []int64{0}},
			{after: 1000 * time.Hour, n: 1, wait: lifetimeWait, window: Window{"a", Total, 1}},
			{after: 1000 * time.Hour, give: 1},
			{after: 1000 * time.Hour, n: 2, grants: []int64{3600_000_000}},
		},
	},
	{
		name: "all windows of all rows, or none", start: noon, limits: []Limit{{PerSecond: 10, PerDay: 9}, {Total: 2, PerMinute: 7}},
		steps: []step{
			{n: 5, grants: []int64{0, 100}},
			{n: 5, wait: lifetimeWait, window: Window{"b", Total, 2}},
			{give: 2},
			{n: 5, grants: []int64{100}},
		},
	},
	{
		name: "no limit at all", start: noon,
		steps: []step{{n: 3, grants: []int64{0, 0, 0}}},
	},
	{
		name: "the clock steps back: reserved instants are not given twice", start: noon, limits: []Limit{{PerSecond: 10}},
		steps: []step{
			{n: 3, grants: []int64{0, 100, 200}},
			{after: -100 * time.Millisecond, n: 1, grants: []int64{300}},
			{after: -time.Hour, n: 1, wait: 100 * time.Millisecond, window: Window{"a", PerSecond, 10}},
			{after: -time.Hour + 100*time.Millisecond, n: 1, grants: []int64{-3600_000 + 600}},
		},
	},
	{
		name: "the clock steps back: the minute is withheld once more", start: noon, limits: []Limit{{PerMinute: 2}},
		steps: []step{
			{n: 3, grants: []int64{0, 0}},
			{after: -time.Hour, n: 1, wait: 60*time.Second + 700*time.Millisecond, window: Window{"a", PerMinute, 2}},
			{after: -time.Hour + 60*time.Second + 700*time.Millisecond, n: 1, grants: []int64{-3600_000 + 60_700}},
		},
	},
	{
		name: "the clock steps back over midnight: the count stays", start: "2026-12-02T00:00:10+08:00", limits: []Limit{{PerDay: 2}},
		steps: []step{
			{n: 1, grants: []int64{0}},
			{after: -20 * time.Second, n: 2, grants: []int64{-20_000}},
			{after: 10 * time.Second, n: 1, wait: 24*time.Hour - 20*time.Second + midnightSkew, window: Window{"a", PerDay, 2}},
		},
	},
	{
		name: "a date far ahead is replaced, with its count", start: noon, limits: []Limit{{PerDay: 2}},
		steps: []step{
			{n: 2, grants: []int64{0, 0}},
			{after: -240 * time.Hour, n: 1, wait: 12*time.Hour + midnightSkew, window: Window{"a", PerDay, 2}},
			{after: -228*time.Hour + midnightSkew, n: 1, grants: []int64{-228*3600_000 + 2000}},
		},
	},
}

func TestWindows(t *testing.T) {
	for _, tt := range windowTable {
		t.Run(tt.name, func(t *testing.T) {
			eachStore(t, func(t *testing.T, k windowStore) {
				start, p := at(t, tt.start), planOf(tt.margin, tt.limits...)
				var granted []*Permit
				for i, s := range tt.steps {
					now := start + s.after.Microseconds()
					if s.give > 0 {
						k.giveBack(now, granted[s.give-1:s.give])
						continue
					}
					want := takeReply{now: now, wait: s.wait, window: s.window}
					for _, g := range s.grants {
						want.instants = append(want.instants, start+ms(g))
					}
					who := s.who
					if who == "" {
						who = "a"
					}
					got, permits := takeAll(k, now, who, p, s.n)
					granted = append(granted, permits...)
					if !reflect.DeepEqual(got, want) {
						t.Fatalf("step %d, at %v:\n got %+v\nwant %+v", i, s.after, got, want)
					}
				}
			})
		})
	}
}

// takeAll takes blocks until there are n permits, or no more are granted.
func takeAll(k windowStore, now int64, who string, p plan, n int) (takeReply, []*Permit) {
	all, permits := takeReply{now: now}, []*Permit(nil)
	for len(permits) < n {
		g := k.take(now, now, who, p, allOf(n-len(permits)))
		if len(g.instants) == 0 {
			if len(permits) == 0 {
				return replyOf(g), nil
			}
			break
		}
		all.instants = append(all.instants, g.instants...)
		permits = append(permits, (&Limiter{}).permits(g)...)
	}
	return all, permits
}
