package ledger

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// A message with the outcome unknown has no msgid, so its receipt is that of no known message. Settle
// notes its receiver, for as long as its receipt may come; what the index of openids has for the
// receiver tells then whether the receipt can only be that of this message.

// UnknownAwaited is how long a message with the outcome unknown is noted.
const UnknownAwaited = 2 * time.Hour

// unknownsKey returns the key of the sorted set of an app's messages with the outcome unknown:
// "<person> <generation> <id>", the score is when it was recorded, in ms since 1970.
func unknownsKey(app string) string { return "wxcourier:{" + app + "}:unknowns" }

var (
	msgIDGraceMs = strconv.FormatInt(msgIDGrace.Milliseconds(), 10)

	// awaitUnknownLua notes a message with the outcome unknown. It uses the variables awaited (a key) and
	// entry (of the stream).
	awaitUnknownLua = strings.ReplaceAll(`
	local now = tonumber(string.match(entry, "^%d+"))
	redis.call("ZADD", awaited, now, ARGV[14])
	redis.call("ZREMRANGEBYSCORE", awaited, "-inf", string.format("%d", now - KEPT))
	redis.call("PEXPIRE", awaited, KEPT)
`, "KEPT", strconv.FormatInt(UnknownAwaited.Milliseconds(), 10))
)

// AwaitReceipt makes Settle join the receipt of a message that comes later: by the msgid of one that was
// accepted, by its receiver if the outcome is unknown. Either may be empty.
func (e *SettleRequest) AwaitReceipt(msgid, receiver string) {
	e.MsgID = msgid
	if e.Outcome == "unknown" && receiver != "" {
		e.Person = PersonOf(receiver)
	}
}

// awaited returns the key and the value or member by which the receipt of a message is joined to it;
// "" if no receipt is awaited.
func (l *Ledger) awaited(ref Ref, e SettleRequest) (key, value string) {
	switch {
	case e.Outcome == "accepted" && ValidMsgID(e.MsgID):
		return msgIDKey(ref.App, e.MsgID), msgIDText(ref, e)
	case e.Outcome == "unknown" && e.Person != "" && l.policy.IndexOpenIDs:
		return unknownsKey(ref.App), e.Person + " " + strconv.Itoa(e.Generation) + " " + ref.ID
	}
	return "", ""
}

// Unknowns returns how many messages of an app have lately got the outcome unknown, by the person that
// they are for. It is empty without the index of openids.
func (l *Ledger) Unknowns(ctx context.Context, app string) (map[string]int, error) {
	if !l.policy.IndexOpenIDs {
		return nil, nil
	}
	members, err := l.rdb.ZRange(ctx, unknownsKey(app), 0, -1).Result()
	if err != nil {
		return nil, fmt.Errorf("read the unknown messages: %w", err)
	}
	persons := make(map[string]int, len(members))
	for _, member := range members {
		person, _, _ := strings.Cut(member, " ")
		persons[person]++
	}
	return persons, nil
}

// PersonTask is a task for a person, as far as it tells whether a receipt may be its own.
type PersonTask struct {
	ID         string
	Gone       bool // there is neither mark nor record; the other fields are zero
	Outcome    string
	Result     []byte
	Queue      string
	Generation int
	Payload    []byte    // of an outcome that can be redriven
	Runner     string    // that may have sent it and has not told what became of it; "" if there is none
	Since      time.Time // when the first such request was written
}

// fenceOf splits a fence.
var fenceOf = regexp.MustCompile(`^\{"runner":"([^"]*)","attempt":\d+,"since":(\d+)(?:,"first":(\d+))?`)

// PersonTasks returns an app's tasks for a person, whose hash is that of PersonOf.
func (l *Ledger) PersonTasks(ctx context.Context, app, person string) ([]PersonTask, error) {
	found, err := l.FindPerson(ctx, []string{app}, person)
	if err != nil {
		return nil, err
	}
	reads := make([]stateRead, len(found))
	_, _ = l.rdb.Pipelined(ctx, func(p redis.Pipeliner) error { // each command has its own error
		for i, t := range found {
			reads[i] = stateRead{app: app, fields: []string{"outcome", "result", "generation", "payload", "fence"}}
			reads[i].request(ctx, p, t.ID)
		}
		return nil
	})
	tasks := make([]PersonTask, len(found))
	for i := range reads {
		t := &tasks[i]
		t.ID = found[i].ID
		s, err := reads[i].state()
		switch {
		case err != nil && !errors.Is(err, ErrNotFound):
			return nil, err
		case err != nil:
			t.Gone = true
			continue
		case s.marked:
			t.Queue = s.queue
			continue
		}
		t.Outcome, t.Result, t.Queue, t.Payload = s.fields[0], []byte(s.fields[1]), s.queue, []byte(s.fields[3])
		t.Generation, _ = strconv.Atoi(s.fields[2])
		if fence := fenceOf.FindStringSubmatch(s.fields[4]); fence != nil {
			first := fence[3]
			if first == "" {
				first = fence[2]
			}
			ms, _ := strconv.ParseInt(first, 10, 64)
			t.Runner, t.Since = fence[1], time.UnixMilli(ms)
		}
	}
	return tasks, nil
}
