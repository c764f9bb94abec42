package ledger

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// A mark says that an id is taken by a task that waits for its first run: since when it is
// enqueued, for which queue of its app, whether it is due, and the digest of what it sends:
//
//	hk6bmopk5c send:subscribe[ [scheduled][#q3J_0b]]
//
// The time is in microseconds since 1970, base 36. It has at most 64 bytes, see WaitingKey.
// State and digest share the third word, so that a build that knows no digests still reads
// the time and the queue of a mark.
func markText(m *Marking) string {
	text := enqueuedText(m.Enqueued) + " " + shortQueue(m.App, m.Queue)
	var third string
	if m.State != waiting {
		third = m.State
	}
	if m.Digest != "" {
		third += "#" + m.Digest
	}
	if third != "" {
		text += " " + third
	}
	return text
}

// waiting is the state that is not written: most tasks have it.
const waiting = "waiting"

// readMarkLua is the beginning of the scripts that read marks. It returns the time, the queue,
// the state ("" is waiting) and the digest ("" is none), or nothing for a text that no mark
// has: somebody else's hand was there. The id is taken all the same.
const readMarkLua = `
local function read(mark) return string.match(mark, "^(%w+) (%S+) ?([^%s#]*)#?(%S*)$") end
`

// markPattern is what readMark reads, for Go.
var markPattern = regexp.MustCompile(`^([0-9A-Za-z]+) (\S+?)(?: ([^\s#]*)#?(\S*))?$`)

// enqueuedText is how marks and records write the time of enqueuing; 0 is not known.
func enqueuedText(t time.Time) string { return strconv.FormatInt(max(t.UnixMicro(), 0), 36) }

// maxEnqueued is the last time that RFC 3339 can say, as which results write it.
var maxEnqueued = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC).UnixMicro()

// enqueuedTime reads the time of enqueuing; zero is not known.
func enqueuedTime(text string) time.Time {
	us, err := strconv.ParseInt(text, 36, 64)
	if err != nil || us <= 0 || us > maxEnqueued {
		return time.Time{}
	}
	return time.UnixMicro(us)
}

// taskState is what is known of a task: its record's fields, or its mark where there is no
// record yet.
type taskState struct {
	fields   []string // of the record, in the order in which they were asked for; "" is none
	queue    string   // in full; "" when not known
	marked   bool     // it has its mark alone
	state    string   // of a marked one
	enqueued string   // likewise: the time of enqueuing
}

// state reads a task in one round trip, or returns ErrNone. The mark is read first: since it
// moves to the record, a task that the mark does not know any more is in the record then.
func (l *Ledger) state(ctx context.Context, app, id string, fields ...string) (taskState, error) {
	var mark *redis.StringCmd
	var record *redis.SliceCmd
	_, _ = l.rdb.Pipelined(ctx, func(p redis.Pipeliner) error { // each command has its own error
		mark = p.HGet(ctx, WaitingKey(app, id), id)
		record = p.HMGet(ctx, TaskKey(app, id), append(fields, "queue", "outcome")...)
		return nil
	})
	values, err := record.Result()
	if err != nil {
		return taskState{}, fmt.Errorf("read the record: %w", err)
	}
	s := taskState{fields: make([]string, len(values))}
	for i, v := range values {
		s.fields[i], _ = v.(string)
	}
	if last := s.fields[len(fields):]; last[0] != "" || last[1] != "" {
		s.queue = fullQueue(app, last[0])
		return s, nil
	}
	text, err := mark.Result()
	switch {
	case errors.Is(err, redis.Nil):
		return taskState{}, ErrNotFound
	case err != nil:
		return taskState{}, fmt.Errorf("read the mark: %w", err)
	}
	s.marked, s.state = true, waiting
	if parts := markPattern.FindStringSubmatch(text); parts != nil {
		s.enqueued, s.queue, s.state = parts[1], fullQueue(app, parts[2]), cmp.Or(parts[3], waiting)
	}
	return s, nil
}
