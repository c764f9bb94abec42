// Package resultlog reads the results of several apps as one sequence, from a [Cursor] on: a [Page]
// at a time with a [Reader], or as they are recorded with a [Follower], which any number of
// readers share.
//
//	page, err := resultlog.NewReader(rdb, log).Read(ctx, resultlog.Query{Apps: apps, From: cursor, Limit: 100})
package resultlog

import (
	"container/heap"
	"context"
	"encoding/json"
	"log/slog"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/tasks"
)

// An Entry is one result: an outcome, or a receipt that supplements one ([tasks.Result.IsReceipt]).
type Entry struct {
	App    string
	At     Position
	Result tasks.Result
}

// A Gap says that entries before those that were read are no longer in an app's stream.
type Gap struct {
	App string
	// Start is the time to which the stream goes back.
	Start time.Time
	// ByLength: results.stream_max_len has removed them, and not results.retention.
	ByLength bool
}

// A Query selects entries.
type Query struct {
	Apps  []string
	From  Cursor
	Until time.Time                // before this time; zero: all
	Match func(*tasks.Result) bool // nil: all
	Limit int                      // of entries that match
	Scan  int                      // of entries that are read
}

// A Page is the entries that one Read has found, in the order of their times.
type Page struct {
	Entries []Entry
	Gaps    []Gap
	Cursor  Cursor // from which the next Read goes on
	More    bool   // a limit ended the page; there may be further entries now
}

// Reader reads pages. It is safe for concurrent use.
type Reader struct {
	ledger    *ledger.Ledger
	inspector *tasks.Inspector
	log       *slog.Logger
}

// NewReader returns a Reader. It does no I/O.
func NewReader(rdb redis.UniversalClient, log *slog.Logger) *Reader {
	return &Reader{ledger: ledger.New(rdb, ledger.Policy{}), inspector: tasks.NewInspector(rdb), log: log}
}

// Read reads a page. It takes one round trip for up to 1,000 entries of each app. The times of
// entries are those of their streams; entries of one app are always in the order in which they
// were recorded.
func (r *Reader) Read(ctx context.Context, q Query) (Page, error) {
	page := Page{Cursor: make(Cursor, len(q.Apps))}
	m := merge{Reader: r, query: q, page: &page}
	for _, app := range q.Apps {
		at, known := q.From[app]
		m.refill = append(m.refill, &source{app: app, at: at, behind: known})
		if known {
			page.Cursor[app] = at
		}
	}
	for scanned := 0; ; scanned++ {
		if err := m.fill(ctx); err != nil {
			return Page{}, err
		}
		if len(m.sources) == 0 {
			return page, nil
		}
		if scanned == q.Scan || len(page.Entries) == q.Limit {
			page.More = true
			return page, nil
		}
		m.take()
	}
}

// source is the stream of one app while a page is read.
type source struct {
	app     string
	at      Position // of the last entry that was taken
	entries []redis.XMessage
	head    Position // of entries[0]
	behind  bool     // entries after at may have been removed
	full    bool     // there may be further entries after those
}

// merge merges the streams of several apps.
type merge struct {
	*Reader
	query   Query
	page    *Page
	sources sources   // with entries: a heap
	refill  []*source // whose entries must be read
}

// Entries of each app that are read at a time.
const (
	pageEntries    = 1000
	minPageEntries = 50
)

// fill reads entries of the sources that have none. Those that have no further ones are dropped.
func (m *merge) fill(ctx context.Context) error {
	if len(m.refill) == 0 {
		return nil
	}
	count := max(minPageEntries, pageEntries/len(m.query.Apps))
	reads := make([]ledger.StreamRead, len(m.refill))
	for i, s := range m.refill {
		reads[i] = ledger.StreamRead{App: s.app, After: s.at.String()}
	}
	pages, err := m.ledger.ReadStreams(ctx, reads, int64(count))
	if err != nil {
		return err
	}
	for i, s := range m.refill {
		if gap, ok := gapOf(s.app, reads[i].After, pages[i].Cut); ok && s.behind {
			m.page.Gaps = append(m.page.Gaps, gap)
		}
		s.entries, s.full, s.behind = pages[i].Entries, len(pages[i].Entries) == count, true
		m.add(s)
	}
	m.refill = nil
	return nil
}

// gapOf returns the gap that a cut makes after an entry, if it makes one.
func gapOf(app, after string, cut ledger.Cut) (Gap, bool) {
	return Gap{App: app, Start: cut.Start(), ByLength: cut.ByLength}, cut.After(after)
}

// add adds a source to the heap, unless its next entry is not wanted, or must be read first.
func (m *merge) add(s *source) {
	if len(s.entries) == 0 {
		if s.full {
			m.refill = append(m.refill, s)
		}
		return
	}
	s.head = parsePosition(s.entries[0].ID)
	if !m.query.Until.IsZero() && s.head.MS >= uint64(max(m.query.Until.UnixMilli(), 0)) {
		return
	}
	heap.Push(&m.sources, s)
}

// take takes the oldest entry.
func (m *merge) take() {
	s, _ := heap.Pop(&m.sources).(*source)
	entry := s.entries[0]
	s.at, s.entries = s.head, s.entries[1:]
	m.page.Cursor[s.app] = s.at
	if e, ok := m.decode(s.app, entry); ok && (m.query.Match == nil || m.query.Match(&e.Result)) {
		m.page.Entries = append(m.page.Entries, e)
	}
	m.add(s)
}

// decode decodes an entry; ok is false for one that is not a result.
func (r *Reader) decode(app string, entry redis.XMessage) (e Entry, ok bool) {
	text, _ := entry.Values["result"].(string)
	e = Entry{App: app, At: parsePosition(entry.ID)}
	if err := json.Unmarshal([]byte(text), &e.Result); err != nil {
		r.log.Warn("an entry of the results cannot be decoded and is left out", slog.String("app", app), slog.String("entry", entry.ID))
		return Entry{}, false
	}
	return e, true
}

// sources is a heap: the source with the oldest entry is first.
type sources []*source

func (s sources) Len() int           { return len(s) }
func (s sources) Swap(i, j int)      { s[i], s[j] = s[j], s[i] }
func (s sources) Less(i, j int) bool { return s[i].head.compare(s[j].head) < 0 }

// Push implements heap.Interface.
func (s *sources) Push(x any) {
	added, _ := x.(*source)
	*s = append(*s, added)
}

// Pop implements heap.Interface.
func (s *sources) Pop() any {
	last := (*s)[len(*s)-1]
	*s = (*s)[:len(*s)-1]
	return last
}
