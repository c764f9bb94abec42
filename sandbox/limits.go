package sandbox

import (
	"fmt"
	"hash/maphash"
	"slices"
	"time"

	"github.com/wxcourier/wxcourier/sandbox/internal/recent"
)

// limitRow is one documented limit: the endpoints that share it, the calls it allows, and WeChat's answers when it is exceeded.
type limitRow struct {
	name     string // the path, or the name of a group of paths
	members  []string
	limit    Limit
	refusals limitRefusals
}

// limitRefusals holds the refusals of a row, by window; a zero field means the general code.
type limitRefusals struct{ second, minute, day, total refusal }

func documentedLimits() []limitRow {
	minuteOfCodes := refusal{45009, "api freq out of limit"} // on this endpoint the code of the daily quota stands for a minute limit
	dayOfLinks := refusal{44993, errmsg(44993)}
	totalOfLinks := refusal{85400, errmsg(85400)}
	minuteOfChecks := refusal{44991, errmsg(44991)}
	return []limitRow{
		{name: pathToken, limit: Limit{PerDay: 2_000}},
		{name: pathStableToken, limit: Limit{PerMinute: 10_000, PerDay: 500_000}},
		{name: pathSubscribe, limit: Limit{PerDay: 10_000_000}},
		{name: pathTemplate, limit: Limit{PerDay: 100_000}},
		{name: pathCustom, limit: Limit{PerDay: 500_000}},
		{name: pathScheme, limit: Limit{PerSecond: 100}},
		{name: pathURLLink, limit: Limit{PerSecond: 100}},
		{name: "links", members: []string{pathScheme, pathURLLink}, limit: Limit{PerDay: 500_000}, refusals: limitRefusals{day: dayOfLinks}},
		{name: pathNFCScheme, limit: Limit{PerSecond: 100, PerDay: 500_000}, refusals: limitRefusals{day: dayOfLinks}},
		{name: pathShortLink, limit: Limit{PerDay: 10_000_000, Total: 100_000}, refusals: limitRefusals{total: totalOfLinks}}, // Total: permanent links
		{name: pathUnlimited, limit: Limit{PerMinute: 5_000}, refusals: limitRefusals{minute: minuteOfCodes}},
		{name: "qrcode", members: []string{pathCode, pathQRCode}, limit: Limit{Total: 100_000}},
		{name: pathTextCheck, limit: Limit{PerMinute: 4_000, PerDay: 2_000_000}, refusals: limitRefusals{minute: minuteOfChecks}},
		{name: pathImageCheck, limit: Limit{PerMinute: 2_000, PerDay: 200_000}, refusals: limitRefusals{minute: minuteOfChecks}},
		{name: pathMediaCheck, limit: Limit{PerMinute: 2_000, PerDay: 200_000}, refusals: limitRefusals{minute: minuteOfChecks}},
		{name: pathLive, limit: Limit{PerDay: 100_000}},
	}
}

// limitTable holds the limits that apply in one sandbox.
type limitTable struct {
	rows   []*limitRow
	byPath map[string][]*limitRow
}

func newLimitTable(opts Options) limitTable {
	book := limitTable{byPath: map[string][]*limitRow{}}
	rows := documentedLimits()
	for name := range opts.Limits {
		if !slices.ContainsFunc(rows, func(r limitRow) bool { return r.name == name }) {
			rows = append(rows, limitRow{name: name})
		}
	}
	for _, row := range rows {
		override, overridden := opts.Limits[row.name]
		switch {
		case overridden:
			row.limit = override
		case opts.NoLimits:
			continue
		}
		if row.members == nil {
			row.members = []string{row.name}
		}
		row.refusals = row.refusals.withDefaults()
		book.rows = append(book.rows, &row)
		for _, path := range row.members {
			book.byPath[path] = append(book.byPath[path], &row)
		}
	}
	return book
}

func (b limitRefusals) withDefaults() limitRefusals {
	or := func(r refusal, code int) refusal {
		if r.code != 0 {
			return r
		}
		return *refuse(code)
	}
	return limitRefusals{second: or(b.second, 44990), minute: or(b.minute, 45011), day: or(b.day, 45009), total: or(b.total, 45029)}
}

// usage is an app's use of one limitRow.
type usage struct {
	calls recent.Window
	day   int64 // the day that used belongs to
	used  int64
	// The lifetime total: what SetQuota set, and the parameters seen.
	base       int64
	parameters map[uint64]struct{}
}

func (u *usage) usedOn(day int64) int64 {
	if u.day != day {
		return 0
	}
	return u.used
}

func (u *usage) total() int64 { return u.base + int64(len(u.parameters)) }

// count adds a call to the limits of path, or returns a refusal without adding it.
func (b limitTable) count(a *appState, path string, at time.Time) *refusal {
	rows, day := b.byPath[path], shanghaiDay(at)
	for _, row := range rows {
		u := a.usageOf(row.name)
		second, minute := u.calls.Advance(at)
		switch {
		case row.limit.PerSecond > 0 && second >= row.limit.PerSecond:
			return &row.refusals.second
		case row.limit.PerMinute > 0 && minute >= row.limit.PerMinute:
			return &row.refusals.minute
		case row.limit.PerDay > 0 && u.usedOn(day) >= row.limit.PerDay:
			return &row.refusals.day
		}
	}
	for _, row := range rows {
		u := a.usageOf(row.name)
		if row.limit.PerSecond > 0 || row.limit.PerMinute > 0 {
			u.calls.Add(at)
		}
		u.day, u.used = day, u.usedOn(day)+1
	}
	return nil
}

// countTotal adds a code or link to the lifetime total, unless one with equal parameters was added before. It returns the total.
func (b limitTable) countTotal(a *appState, path string, parameters uint64) (int64, *refusal) {
	for _, row := range b.byPath[path] {
		if row.limit.Total == 0 {
			continue
		}
		u := a.usageOf(row.name)
		if _, seen := u.parameters[parameters]; !seen {
			if u.total() >= row.limit.Total {
				return u.total(), &row.refusals.total
			}
			if u.parameters == nil {
				u.parameters = map[uint64]struct{}{}
			}
			u.parameters[parameters] = struct{}{}
		}
		return u.total(), nil
	}
	return 0, nil
}

// SetQuota sets how much an app has used today of the daily quota of path, or of its lifetime quota. It fails if path has
// neither.
func (s *Server) SetQuota(app, path string, used int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, ok := s.findApp(app)
	if !ok {
		return fmt.Errorf("sandbox: unknown app %q", app)
	}
	set := false
	for _, row := range s.limits.byPath[path] {
		u := a.usageOf(row.name)
		if row.limit.PerDay > 0 {
			u.day, u.used, set = shanghaiDay(s.opts.Clock()), used, true
		}
		if row.limit.Total > 0 {
			u.base, set = used-int64(len(u.parameters)), true
		}
	}
	if !set {
		return fmt.Errorf("sandbox: no daily or lifetime limit for path %q", path)
	}
	return nil
}

// shanghaiDay numbers the calendar days of Asia/Shanghai (UTC+8, no daylight saving).
func shanghaiDay(at time.Time) int64 { return (at.Unix() + 8*3600) / 86400 }

// hashOf returns a hash of several strings, stable within one sandbox.
func (s *Server) hashOf(parts ...string) uint64 {
	var h maphash.Hash
	h.SetSeed(s.seed)
	for _, p := range parts {
		_, _ = h.WriteString(p) // never fails
		_ = h.WriteByte(0)
	}
	return h.Sum64()
}
