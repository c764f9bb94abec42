package ledger

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// Reader is a named reader of an app's stream, as one of the processes that share it uses it: one
// process at a time, by a lease. Entries that a reader is not done with outlive the trimming of the
// stream, see trimLua; so a reader, unlike a Group, is for something that may stand still for long.
//
//	TendReaders   creates readers, and keeps them in use
//	Acquire       a process gets the reader, with the batch that another one has left
//	Page          the next entries
//	Store         stores the batch that is about to be processed
//	Advance       the batch is done
//	Fail          it is not: the reader is given back until the next try
type Reader struct {
	rdb              redis.UniversalClient
	app, name, owner string
	lease            time.Duration
}

// ReaderConfig describes a Reader.
type ReaderConfig struct {
	App, Name string
	Owner     string        // unique to this process; no blanks
	Lease     time.Duration // for which a process has the reader after each call
}

// NewReader returns a Reader. It does no I/O.
func NewReader(rdb redis.UniversalClient, c ReaderConfig) *Reader {
	return &Reader{rdb: rdb, app: c.App, name: c.Name, owner: c.Owner, lease: c.Lease}
}

// ErrLeaseLost means that another process has the reader, or that it was moved.
var ErrLeaseLost = errors.New("ledger: the lease of the reader was lost")

// ErrNoReader means that a reader does not exist.
var ErrNoReader = errors.New("ledger: no such reader")

// ReaderStart names a reader for TendReaders.
type ReaderStart struct {
	Name string
	// Since is where a new reader starts: with the first entry at or after this time; zero: with
	// the next entry that is recorded.
	Since time.Time
	// Off is set for a reader that is not to hold the trimming back.
	Off bool
}

func (s ReaderStart) text() string {
	switch {
	case s.Off:
		return "off"
	case s.Since.IsZero():
		return "end"
	}
	return strconv.FormatInt(s.Since.UnixMilli(), 10)
}

// TendReaders creates the readers of an app that do not exist, and notes that the given ones are in
// use: call it at least every five minutes. A reader that is not tended any more ceases to hold the
// trimming back, and is forgotten after a week. most is the length of the stream up to which readers
// hold it back.
func TendReaders(ctx context.Context, rdb redis.UniversalClient, app string, most int64, readers []ReaderStart) error {
	args := []any{most}
	for _, r := range readers {
		args = append(args, r.Name, r.text())
	}
	if err := tendScript.Run(ctx, rdb, []string{readersKey(app), cutKey(app), StreamKey(app)}, args...).Err(); err != nil {
		return fmt.Errorf("tend the readers: %w", err)
	}
	return nil
}

// ReaderState is a reader as a process gets it.
type ReaderState struct {
	Cursor string // id of the last entry that it is done with
	Batch  []byte // that was stored last, if it is not done
	Note   []byte // of the last Advance or Fail
}

// Acquire gives the reader to this process. wait is positive if it may not have it yet: another
// process has it, or the time of the next try has not come.
func (r *Reader) Acquire(ctx context.Context) (s ReaderState, wait time.Duration, err error) {
	reply, err := acquireScript.Run(ctx, r.rdb, []string{readersKey(r.app), readerKey(r.app, r.name)}, r.name, r.owner, r.lease.Milliseconds()).Slice()
	if err != nil {
		return s, 0, fmt.Errorf("acquire the reader: %w", err)
	}
	ms, _ := reply[0].(int64)
	switch {
	case ms < 0:
		return s, 0, ErrNoReader
	case ms > 0 || len(reply) != 4:
		return s, time.Duration(max(ms, 1)) * time.Millisecond, nil
	}
	text := func(i int) string { s, _ := reply[i].(string); return s }
	return ReaderState{Cursor: text(1), Batch: []byte(text(2)), Note: []byte(text(3))}, 0, nil
}

// Store stores the batch that is about to be processed, and renews the lease; nil only renews it.
func (r *Reader) Store(ctx context.Context, batch []byte) error {
	return r.run(ctx, "store the batch", storeScript, []string{readerKey(r.app, r.name)}, r.owner, r.lease.Milliseconds(), batch)
}

// Step is what a reader is done with.
type Step struct {
	Cursor string // id of the last entry
	Passed int    // number of entries up to there
	// Oldest is set instead of Passed when the entries up to the cursor were removed.
	Oldest bool
	Note   []byte      // for the next Acquire; nil: none
	Dead   *DeadLetter // is stored; nil: none
}

// Advance moves the reader forward, deletes its batch and renews the lease.
func (r *Reader) Advance(ctx context.Context, s Step) error {
	args := []any{r.name, r.owner, r.lease.Milliseconds(), s.Cursor, s.Passed, flag(s.Oldest), s.Note}
	if s.Dead != nil {
		args = append(args, s.Dead.fields()...)
	}
	return r.run(ctx, "move the reader", advanceScript, []string{
		readersKey(r.app), readerKey(r.app, r.name), cutKey(r.app), StreamKey(r.app), deadKey(r.app, r.name),
	}, args...)
}

// Fail gives the reader back until the next try. Its batch stays.
func (r *Reader) Fail(ctx context.Context, wait time.Duration, note []byte) error {
	return r.run(ctx, "give the reader back", failScript, []string{readerKey(r.app, r.name)}, r.owner, wait.Milliseconds(), note)
}

// Release gives the reader back.
func (r *Reader) Release(ctx context.Context) error {
	return r.run(ctx, "give the reader back", releaseScript, []string{readerKey(r.app, r.name)}, r.owner)
}

func (r *Reader) run(ctx context.Context, did string, script *redis.Script, keys []string, args ...any) error {
	ok, err := script.Run(ctx, r.rdb, keys, args...).Bool()
	if err != nil {
		return fmt.Errorf("%s: %w", did, err)
	}
	if !ok {
		return ErrLeaseLost
	}
	return nil
}

// Entry is an entry of a stream.
type Entry struct {
	ID     string
	Result string // as recorded
}

// Page returns up to count entries after a cursor, and what was removed from the stream until then.
func Page(ctx context.Context, rdb redis.UniversalClient, app, cursor string, count int64) ([]Entry, Cut, error) {
	var page, first *redis.XMessageSliceCmd
	var cut *redis.SliceCmd
	_, err := rdb.TxPipelined(ctx, func(p redis.Pipeliner) error { // at one time, so that cut fits page
		page = p.XRangeN(ctx, StreamKey(app), "("+cursor, "+", count)
		cut = p.HMGet(ctx, cutKey(app), "id", "by")
		first = p.XRangeN(ctx, StreamKey(app), "-", "+", 1)
		return nil
	})
	if err != nil {
		return nil, Cut{}, fmt.Errorf("read the results: %w", err)
	}
	return entries(page.Val()), cutOf(cut.Val(), first.Val()), nil
}

// Entries returns the entries of the given ids that are still in the stream.
func Entries(ctx context.Context, rdb redis.UniversalClient, app string, ids []string) ([]Entry, error) {
	all := make([]*redis.XMessageSliceCmd, len(ids))
	_, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, id := range ids {
			all[i] = p.XRangeN(ctx, StreamKey(app), id, id, 1)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the results: %w", err)
	}
	var found []Entry
	for _, one := range all {
		found = append(found, entries(one.Val())...)
	}
	return found, nil
}

func entries(messages []redis.XMessage) []Entry {
	all := make([]Entry, 0, len(messages))
	for _, m := range messages {
		text, _ := m.Values["result"].(string)
		all = append(all, Entry{ID: m.ID, Result: text})
	}
	return all
}
