package resultlog

import (
	"cmp"
	"container/heap"
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/tasks"
)

// A NewestQuery selects entries, the newest first. The streams of several apps are merged by time.
type NewestQuery struct {
	Apps []string
	// Before is the NewestPage.Next of the page before; "": the newest entries. The filter and the
	// apps may differ from those of that page.
	Before string
	Since  time.Time // at or after this time; zero: all that is kept
	// Contains are texts of which each must be in the JSON of an entry, such as `"outcome":"failed"`:
	// they are looked for before an entry is decoded, which takes ten times as long. See Field.
	Contains []string
	Match    func(*tasks.Result) bool // of entries that contain those; nil: all
	// Receipts selects the receipts ([tasks.Result.IsReceipt]), and no outcomes. Without it the entries
	// are outcomes, with the receipts that came since.
	Receipts bool
	Limit    int // of entries that match; 0: 100
	Scan     int // of entries that are read; 0: MaxScan
}

// MaxScan is how many entries a page reads at most, if nothing else is wanted: some 7 MB and 0.1 s.
const MaxScan = 20_000

const defaultLimit = 100

// A NewestPage is what one call of Newest has found, the newest entry first.
type NewestPage struct {
	Entries []Entry
	// Next is for NewestQuery.Before; "": there are no further entries.
	Next string
	// Back is the time to which the entries were looked through; zero: to the end of what is kept.
	Back time.Time
	// Scanned is the number of entries that were read.
	Scanned int
}

// Field returns how the JSON of a result has a field with a text without special characters, for
// NewestQuery.Contains.
func Field(name, value string) string { return `"` + name + `":"` + value + `"` }

// NumberField is Field for a number that is not the last field: `"errcode":43101,`.
func NumberField(name string, value int) string {
	return `"` + name + `":` + strconv.Itoa(value) + `,`
}

// Newest reads a page of the newest results. A page without entries may have a Next: its Scan ended
// before one matched. It takes a round trip for up to 1,000 entries of each app. The error is
// ErrCursor for a Before that is of no page.
func (r *Reader) Newest(ctx context.Context, q NewestQuery) (NewestPage, error) {
	q.Limit, q.Scan = cmp.Or(q.Limit, defaultLimit), cmp.Or(q.Scan, MaxScan)
	before, err := parsePlace(q.Before)
	if err != nil {
		return NewestPage{}, err
	}
	m := backMerge{Reader: r, query: q, minimum: "-"}
	if !q.Since.IsZero() {
		m.minimum = strconv.FormatInt(max(q.Since.UnixMilli(), 0), 10)
	}
	for _, app := range slices.Compact(slices.Sorted(slices.Values(q.Apps))) {
		m.refill = append(m.refill, &backSource{app: app, upTo: before.bound(app), count: max(firstBack, pageEntries/10/len(q.Apps))})
	}
	for {
		if err := m.fill(ctx); err != nil {
			return NewestPage{}, err
		}
		if len(m.sources) == 0 {
			m.page.Back = q.Since
			return m.page, m.addReceipts(ctx)
		}
		if m.page.Scanned == q.Scan || len(m.page.Entries) == q.Limit {
			m.page.Next = m.last.String()
			m.page.Back = ledger.EntryTime(m.last.at.String())
			return m.page, m.addReceipts(ctx)
		}
		m.take()
	}
}

// addReceipts adds the receipts that came since the outcomes of the page were recorded: a round trip
// if one of them may have one.
func (m *backMerge) addReceipts(ctx context.Context) error {
	if m.query.Receipts {
		return nil
	}
	results := make([]tasks.Result, len(m.page.Entries))
	for i, e := range m.page.Entries {
		results[i] = e.Result
	}
	if err := m.inspector.AddReceipts(ctx, results); err != nil {
		return err
	}
	for i, result := range results {
		m.page.Entries[i].Result = result
	}
	return nil
}

// Until returns the position for NewestQuery.Before that leaves out all entries at or after a time.
func Until(t time.Time) string {
	return place{at: parsePosition(strconv.FormatInt(max(t.UnixMilli(), 0), 10) + "-0"), app: firstApp}.String()
}

// firstApp is before all other app ids.
const firstApp = "wx0000000000000000"

// place is the place of an entry among those of all apps: by its position, then by its app. No two
// entries have the same.
type place struct {
	at  Position
	app string
}

func (p place) String() string { return p.at.String() + "-" + p.app }

// parsePlace is the inverse of String; the zero place for "".
func parsePlace(text string) (place, error) {
	if text == "" {
		return place{}, nil
	}
	parts := strings.Split(text, "-")
	if len(parts) != 3 || !tasks.ValidApp(parts[2]) {
		return place{}, ErrCursor
	}
	p := place{app: parts[2], at: parsePosition(parts[0] + "-" + parts[1])}
	if p.String() != text {
		return place{}, ErrCursor
	}
	return p, nil
}

func (p place) compare(q place) int { return cmp.Or(p.at.compare(q.at), cmp.Compare(p.app, q.app)) }

// bound returns the id of the newest entry of an app before the place, see ledger.BackRead.Max.
func (p place) bound(app string) string {
	switch {
	case p.app == "":
		return "+"
	case app < p.app:
		return p.at.String()
	}
	return "(" + p.at.String()
}

// Entries of each app that are read at first; each further read has twice as many, up to
// pageEntries.
const firstBack = 10

// backSource is the stream of one app while a page is read.
type backSource struct {
	app     string
	upTo    string // see ledger.BackRead.Max
	count   int    // entries that the next read asks for
	entries []redis.XMessage
	head    place // of entries[0]
	full    bool  // there may be further entries after those
}

// backMerge merges the streams of several apps from their ends.
type backMerge struct {
	*Reader
	query   NewestQuery
	minimum string
	page    NewestPage
	last    place         // of the last entry that was taken
	sources backSources   // with entries: a heap
	refill  []*backSource // whose entries must be read
}

// fill reads entries of the sources that have none. Those that have no further ones are dropped.
func (m *backMerge) fill(ctx context.Context) error {
	if len(m.refill) == 0 {
		return nil
	}
	reads := make([]ledger.BackRead, len(m.refill))
	for i, s := range m.refill {
		reads[i] = ledger.BackRead{App: s.app, Max: s.upTo, Min: m.minimum, Count: int64(s.count)}
	}
	entries, err := m.ledger.ReadStreamsBack(ctx, reads)
	if err != nil {
		return err
	}
	refill := m.refill
	m.refill = nil
	for i, s := range refill {
		s.entries, s.full = entries[i], len(entries[i]) == s.count
		s.count = min(2*s.count, pageEntries)
		m.add(s)
	}
	return nil
}

// add adds a source to the heap, unless its next entries must be read first.
func (m *backMerge) add(s *backSource) {
	if len(s.entries) > 0 {
		s.head = place{parsePosition(s.entries[0].ID), s.app}
		heap.Push(&m.sources, s)
	} else if s.full {
		m.refill = append(m.refill, s)
	}
}

// take takes the newest entry.
func (m *backMerge) take() {
	s, _ := heap.Pop(&m.sources).(*backSource)
	entry := s.entries[0]
	m.last, s.entries, s.upTo = s.head, s.entries[1:], "("+s.head.at.String()
	m.page.Scanned++
	if m.contains(entry) {
		if e, ok := m.decode(s.app, entry); ok && e.Result.IsReceipt() == m.query.Receipts && (m.query.Match == nil || m.query.Match(&e.Result)) {
			m.page.Entries = append(m.page.Entries, e)
		}
	}
	m.add(s)
}

// contains reports whether the JSON of an entry contains the texts of the query.
func (m *backMerge) contains(entry redis.XMessage) bool {
	text, _ := entry.Values["result"].(string)
	return !slices.ContainsFunc(m.query.Contains, func(part string) bool { return !strings.Contains(text, part) })
}

// backSources is a heap: the source with the newest entry is first.
type backSources []*backSource

func (s backSources) Len() int           { return len(s) }
func (s backSources) Swap(i, j int)      { s[i], s[j] = s[j], s[i] }
func (s backSources) Less(i, j int) bool { return s[i].head.compare(s[j].head) > 0 }

// Push implements heap.Interface.
func (s *backSources) Push(x any) {
	added, _ := x.(*backSource)
	*s = append(*s, added)
}

// Pop implements heap.Interface.
func (s *backSources) Pop() any {
	last := (*s)[len(*s)-1]
	*s = (*s)[:len(*s)-1]
	return last
}
