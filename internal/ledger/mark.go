package ledger

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// markText returns the mark of a task that waits for its first run. A mark reserves the id, and
// contains the time of enqueuing, the queue without its app, the state, and the digest of what
// the task sends:
//
//	hk6bmopk5c send:subscribe[ [scheduled][#q3J_0b]]
//
// The time is in microseconds since 1970, base 36. A mark has at most 64 bytes, see WaitingKey.
// State and digest share the third word, so that a version without digests can still read the
// time and the queue.
func markText(m *MarkRequest) string {
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

// waiting is the state of most tasks; marks leave it out.
const waiting = "waiting"

// readMarkLua is the beginning of the scripts that read marks. read returns the time, the queue,
// the state ("" is waiting) and the digest ("" is none), or nothing if the text is not a mark,
// because another program has overwritten it. The id counts as taken all the same.
const readMarkLua = `
local function read(mark) return string.match(mark, "^(%w+) (%S+) ?([^%s#]*)#?(%S*)$") end
`

// markPattern is the pattern of readMarkLua for Go.
var markPattern = regexp.MustCompile(`^([0-9A-Za-z]+) (\S+?)(?: ([^\s#]*)#?(\S*))?$`)

// enqueuedText formats a time of enqueuing for marks and records; 0 means unknown.
func enqueuedText(t time.Time) string { return strconv.FormatInt(max(t.UnixMicro(), 0), 36) }

// maxEnqueued is the last time that RFC 3339 can express, which results use.
var maxEnqueued = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC).UnixMicro()

// enqueuedTime parses a time of enqueuing. It returns the zero time if the time is unknown or
// invalid.
func enqueuedTime(text string) time.Time {
	us, err := strconv.ParseInt(text, 36, 64)
	if err != nil || us <= 0 || us > maxEnqueued {
		return time.Time{}
	}
	return time.UnixMicro(us)
}

// taskState is the content of a task's record, or of its mark if there is no record yet.
type taskState struct {
	fields   []string // of the record, in the order of the request; "" for a missing field
	queue    string   // with its app; "" if unknown
	marked   bool     // there is only a mark
	state    string   // only with a mark
	enqueued string   // only with a mark, see enqueuedTime
}

// state reads the mark and the record of a task in one round trip. It returns ErrNotFound if
// there is neither.
func (l *Ledger) state(ctx context.Context, app, id string, fields ...string) (taskState, error) {
	read := stateRead{app: app, fields: fields}
	_, _ = l.rdb.Pipelined(ctx, func(p redis.Pipeliner) error { // each command has its own error
		read.request(ctx, p, id)
		return nil
	})
	return read.state()
}

// stateRead reads the mark and the record of a task as a part of a pipeline.
type stateRead struct {
	app    string
	fields []string // of the record
	mark   *redis.StringCmd
	record *redis.SliceCmd
}

// request adds the commands. The mark is read first: it moves to the record, so a task whose mark is
// gone by then has its record when that is read.
func (r *stateRead) request(ctx context.Context, p redis.Pipeliner, id string) {
	r.mark = p.HGet(ctx, WaitingKey(r.app, id), id)
	r.record = p.HMGet(ctx, TaskKey(r.app, id), append(slices.Clip(r.fields), "queue", "outcome")...)
}

// state returns what was read.
func (r *stateRead) state() (taskState, error) {
	values, err := r.record.Result()
	if err != nil {
		return taskState{}, fmt.Errorf("read the record: %w", err)
	}
	s := taskState{fields: make([]string, len(values))}
	for i, v := range values {
		s.fields[i], _ = v.(string)
	}
	if last := s.fields[len(r.fields):]; last[0] != "" || last[1] != "" {
		s.queue = fullQueue(r.app, last[0])
		return s, nil
	}
	text, err := r.mark.Result()
	switch {
	case errors.Is(err, redis.Nil):
		return taskState{}, ErrNotFound
	case err != nil:
		return taskState{}, fmt.Errorf("read the mark: %w", err)
	}
	s.marked, s.state = true, waiting
	if parts := markPattern.FindStringSubmatch(text); parts != nil {
		s.enqueued, s.queue, s.state = parts[1], fullQueue(r.app, parts[2]), cmp.Or(parts[3], waiting)
	}
	return s, nil
}
