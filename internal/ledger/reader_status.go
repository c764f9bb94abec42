package ledger

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// DeadLetter is an entry that a reader has given up.
type DeadLetter struct {
	ID      string // of the dead letter; set by DeadLetters
	Entry   string // id of the entry
	Result  string // as recorded
	Message string // id of the message that was refused
	Reason  string
	Status  int // HTTP status; 0: none
}

func (d *DeadLetter) fields() []any {
	return []any{"entry", d.Entry, "result", d.Result, "message", d.Message, "reason", d.Reason, "status", d.Status}
}

// DeadLetters returns up to count dead letters of a reader after the one with the given id, "0-0" for
// the first.
func DeadLetters(ctx context.Context, rdb redis.UniversalClient, app, name, after string, count int64) ([]DeadLetter, error) {
	messages, err := rdb.XRangeN(ctx, deadKey(app, name), "("+after, "+", count).Result()
	if err != nil {
		return nil, fmt.Errorf("read the dead letters: %w", err)
	}
	all := make([]DeadLetter, 0, len(messages))
	for _, m := range messages {
		text := func(name string) string { s, _ := m.Values[name].(string); return s }
		status, _ := strconv.Atoi(text("status"))
		all = append(all, DeadLetter{ID: m.ID, Entry: text("entry"), Result: text("result"), Message: text("message"), Reason: text("reason"), Status: status})
	}
	return all, nil
}

// DeleteDead deletes a dead letter.
func DeleteDead(ctx context.Context, rdb redis.UniversalClient, app, name, id string) error {
	if err := rdb.XDel(ctx, deadKey(app, name), id).Err(); err != nil {
		return fmt.Errorf("delete the dead letter: %w", err)
	}
	return nil
}

// ReaderStatus is the state of a reader.
type ReaderStatus struct {
	Name   string
	Cursor string
	Lag    int64     // entries that it is not done with
	Oldest time.Time // of these; zero: there are none
	Note   []byte    // see Step
	Next   time.Time // of the next try; zero: now
	Leased bool      // a process has it
	Dead   int64     // dead letters
}

// Readers returns the state of an app's readers, sorted by name.
func Readers(ctx context.Context, rdb redis.UniversalClient, app string) ([]ReaderStatus, error) {
	var fields *redis.MapStringStringCmd
	var cut *redis.StringCmd
	var length *redis.IntCmd
	_, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		fields, cut, length = p.HGetAll(ctx, readersKey(app)), p.HGet(ctx, cutKey(app), "removed"), p.XLen(ctx, StreamKey(app))
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) {
		return nil, fmt.Errorf("read the readers: %w", err)
	}
	removed, _ := cut.Int64()
	all := make([]ReaderStatus, 0, len(fields.Val()))
	for name, value := range fields.Val() {
		parts := strings.Fields(value)
		if len(parts) != 3 {
			continue
		}
		ordinal, _ := strconv.ParseInt(parts[1], 10, 64)
		all = append(all, ReaderStatus{Name: name, Cursor: parts[0], Lag: min(max(1, removed+length.Val()-ordinal), max(1, length.Val()))})
	}
	slices.SortFunc(all, func(a, b ReaderStatus) int { return strings.Compare(a.Name, b.Name) })
	return all, details(ctx, rdb, app, all)
}

// details adds to each reader what is not in the hash of all readers.
func details(ctx context.Context, rdb redis.UniversalClient, app string, all []ReaderStatus) error {
	if len(all) == 0 {
		return nil
	}
	next := make([]*redis.XMessageSliceCmd, len(all))
	state := make([]*redis.SliceCmd, len(all))
	dead := make([]*redis.IntCmd, len(all))
	var now *redis.TimeCmd
	_, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		now = p.Time(ctx)
		for i, r := range all {
			next[i] = p.XRangeN(ctx, StreamKey(app), "("+r.Cursor, "+", 1)
			state[i] = p.HMGet(ctx, readerKey(app, r.Name), "note", "next", "lease")
			dead[i] = p.XLen(ctx, deadKey(app, r.Name))
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read the readers: %w", err)
	}
	for i := range all {
		r := &all[i]
		text := func(n int) string { s, _ := state[i].Val()[n].(string); return s }
		ms, _ := strconv.ParseInt(text(1), 10, 64)
		if ms > now.Val().UnixMilli() {
			r.Next = time.UnixMilli(ms)
		}
		_, lease, _ := strings.Cut(text(2), " ")
		until, _ := strconv.ParseInt(lease, 10, 64)
		r.Note, r.Leased, r.Dead = []byte(text(0)), until > now.Val().UnixMilli(), dead[i].Val()
		if entries := next[i].Val(); len(entries) > 0 {
			r.Oldest = EntryTime(entries[0].ID)
		} else {
			r.Lag = 0
		}
	}
	return nil
}

// Positions returns the id of the last entry of each app's stream, "" for none, and the cursors of
// its readers by name.
func Positions(ctx context.Context, rdb redis.UniversalClient, apps []string) (last []string, cursors []map[string]string, err error) {
	ends := make([]*redis.XMessageSliceCmd, len(apps))
	fields := make([]*redis.MapStringStringCmd, len(apps))
	_, err = rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, app := range apps {
			ends[i], fields[i] = p.XRevRangeN(ctx, StreamKey(app), "+", "-", 1), p.HGetAll(ctx, readersKey(app))
		}
		return nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("read the positions: %w", err)
	}
	for i := range apps {
		id := ""
		if entries := ends[i].Val(); len(entries) > 0 {
			id = entries[0].ID
		}
		byName := make(map[string]string, len(fields[i].Val()))
		for name, value := range fields[i].Val() {
			byName[name], _, _ = strings.Cut(value, " ")
		}
		last, cursors = append(last, id), append(cursors, byName)
	}
	return last, cursors, nil
}

// MoveReader sets the position of a reader to before the first entry at or after a time, whoever has
// it. Its state, but not its dead letters, is deleted. It returns the number of entries after the
// position, or ErrNoReader.
func MoveReader(ctx context.Context, rdb redis.UniversalClient, app, name string, since time.Time) (int64, error) {
	cursor, err := positionBefore(ctx, rdb, app, since)
	if err != nil {
		return 0, err
	}
	var n int64
	for at := cursor; ; {
		reply, err := countScript.Run(ctx, rdb, []string{StreamKey(app)}, at).Slice()
		if err != nil {
			return 0, fmt.Errorf("count the results: %w", err)
		}
		page, _ := reply[0].(int64)
		n += page
		if at, _ = reply[1].(string); page < 1000 {
			break
		}
	}
	moved, err := moveScript.Run(ctx, rdb, []string{readersKey(app), readerKey(app, name), cutKey(app), StreamKey(app)}, name, cursor, n).Bool()
	switch {
	case err != nil:
		return 0, fmt.Errorf("move the reader: %w", err)
	case !moved:
		return 0, ErrNoReader
	}
	return n, nil
}

// positionBefore returns the id of the last entry before a time. If there is none it returns "0-0",
// so that the reader learns of entries that were removed.
func positionBefore(ctx context.Context, rdb redis.UniversalClient, app string, since time.Time) (string, error) {
	end := strconv.FormatInt(max(since.UnixMilli()-1, 0), 10)
	before, err := rdb.XRevRangeN(ctx, StreamKey(app), end, "-", 1).Result()
	if err != nil {
		return "", fmt.Errorf("read the results: %w", err)
	}
	if len(before) > 0 {
		return before[0].ID, nil
	}
	id, err := rdb.HGet(ctx, cutKey(app), "id").Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return "", fmt.Errorf("read the results: %w", err)
	}
	if id != "" && EntryTime(id).Before(since) {
		return id, nil // what was removed is older than what is asked for
	}
	return "0-0", nil
}

// ResumeReader lets a reader that waits for its next try continue now.
func ResumeReader(ctx context.Context, rdb redis.UniversalClient, app, name string) error {
	if err := rdb.HDel(ctx, readerKey(app, name), "next").Err(); err != nil {
		return fmt.Errorf("resume the reader: %w", err)
	}
	return nil
}

// Before returns the id before that of an entry.
func Before(id string) string {
	ms, seq, err := parseEntry(id)
	switch {
	case err != nil || ms == 0 && seq == 0:
		return "0-0"
	case seq > 0:
		return fmt.Sprintf("%d-%d", ms, seq-1)
	}
	return fmt.Sprintf("%d-%d", ms-1, uint64(math.MaxUint64))
}

// EntryLess reports whether an entry comes before another, by their ids.
func EntryLess(a, b string) bool { return entryLess(a, b) }
