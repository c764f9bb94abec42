package ledger

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// A check of a sound or an image ends with WeChat's push, which has the trace_id of the answer to the
// request. Await stores which task waits for a trace_id, in a key of its own that expires; a push that
// comes before the answer was recorded is stored in the same key. The record of a task that waits has
// the field `trace`: "<ms> <trace_id>", the time in ms since 1970 until which it waits.

const (
	// earlyTrace is how long a push is kept of which no task is known: the answer to the request may
	// not be recorded yet.
	earlyTrace = time.Hour
	// maxTraceID bounds a trace_id, in bytes.
	maxTraceID = 128

	traceTask = "task " // "task <runner> <queue> <result>", the queue without its app
	tracePush = "push " // "push <text of the caller>"
)

// traceKey returns the key of the task that waits for the push with a trace_id, or of the push.
func traceKey(app, traceID string) string { return "wxcourier:{" + app + "}:trace:" + traceID }

// ValidTraceID reports whether a text can be a trace_id.
func ValidTraceID(traceID string) bool {
	return traceID != "" && len(traceID) <= maxTraceID && !strings.ContainsAny(traceID, " \t\r\n\x00")
}

// AwaitRequest describes a task whose request WeChat has accepted, and which a push ends.
type AwaitRequest struct {
	Runner  string // that has the task
	Queue   string // the task's asynq queue
	TraceID string
	Result  []byte        // the result record as JSON, for the push to complete
	Timeout time.Duration // for which the task waits
}

// AwaitResult is the result of Await.
type AwaitResult struct {
	Lost  bool   // the task has another runner, or an outcome: nothing was written
	Early []byte // the push, if it came before
}

// awaitScript makes a task wait for a push. The fence lets the push replace the outcome "unknown" of
// a task that has waited too long.
//
// KEYS[1] record, KEYS[2] trace
// ARGV[1] runner, ARGV[2] trace_id, ARGV[3] value of the trace, ARGV[4] ms for which the task waits,
// ARGV[5] ms until the trace expires
//
// Returns {"ok" | "lost" | "early", the push}.
var awaitScript = redis.NewScript(`
local record = redis.call("HMGET", KEYS[1], "outcome", "run", "attempts", "trace", "fence")
local outcome, run, waiting = record[1], record[2], record[4]
local mine = run and string.match(run, "^(%S+)") == ARGV[1]
local again = not run and waiting and string.match(record[5] or "", '"runner":"([^"]*)"') == ARGV[1] -- the first reply was lost
if outcome or not mine and not again then return {"lost", ""} end
local t = redis.call("TIME")
local now = t[1] * 1000 + math.floor(t[2] / 1000)
redis.call("HSET", KEYS[1], "state", "waiting", "trace", string.format("%d %s", now + ARGV[4], ARGV[2]),
	"fence", string.format('{"runner":"%s","attempt":%d,"since":%d}', ARGV[1], tonumber(record[3] or 1), now))
redis.call("HDEL", KEYS[1], "run", "lost")
local known = redis.call("GET", KEYS[2])
if known and string.sub(known, 1, 5) == "push " then return {"early", string.sub(known, 6)} end
redis.call("SET", KEYS[2], ARGV[3], "PX", ARGV[5])
return {"ok", ""}
`)

// Await makes a task wait for the push with a trace_id. It may be repeated.
func (l *Ledger) Await(ctx context.Context, ref Ref, a AwaitRequest) (AwaitResult, error) {
	value := traceTask + a.Runner + " " + shortQueue(ref.App, a.Queue) + " " + string(a.Result)
	reply, err := awaitScript.Run(ctx, l.rdb, []string{TaskKey(ref.App, ref.ID), traceKey(ref.App, a.TraceID)},
		a.Runner, a.TraceID, value, a.Timeout.Milliseconds(), (a.Timeout + l.policy.Retention).Milliseconds()).StringSlice()
	if err == nil && len(reply) != 2 {
		err = errors.New("unexpected length of the reply")
	}
	if err != nil {
		return AwaitResult{}, fmt.Errorf("wait for the callback: %w", err)
	}
	r := AwaitResult{Lost: reply[0] == "lost"}
	if reply[0] == "early" {
		r.Early = []byte(reply[1])
	}
	return r, nil
}

// Awaiting is a task that waits for a push. Its TraceID is empty for a task that does not.
type Awaiting struct {
	TraceID              string
	Wait                 time.Duration // left until the task has waited too long; not positive: it has
	Early                []byte        // the push, if it came before Await
	Attempts, Generation int
	Enqueued             time.Time // zero if unknown
}

// awaitingScript reads a record that waits.
//
// KEYS[1] record. Returns {} for one that does not wait, else {trace_id, ms left, attempts, generation,
// enqueued}.
var awaitingScript = redis.NewScript(`
local record = redis.call("HMGET", KEYS[1], "trace", "outcome", "attempts", "generation", "enqueued")
if not record[1] or record[2] then return {} end
local t = redis.call("TIME")
local untilMs, trace = string.match(record[1], "^(%d+) (.*)$")
return {trace or "", (tonumber(untilMs) or 0) - (t[1] * 1000 + math.floor(t[2] / 1000)), tonumber(record[3] or 0),
	tonumber(record[4] or 0), record[5] or ""}
`)

// Awaiting reads whether a task waits for a push: with one command if it does not.
func (l *Ledger) Awaiting(ctx context.Context, app, id string) (Awaiting, error) {
	reply, err := awaitingScript.Run(ctx, l.rdb, []string{TaskKey(app, id)}).Slice()
	if err != nil {
		return Awaiting{}, fmt.Errorf("read the record: %w", err)
	}
	if len(reply) != 5 {
		return Awaiting{}, nil
	}
	n := func(i int) int { v, _ := reply[i].(int64); return int(v) }
	trace, _ := reply[0].(string)
	enqueued, _ := reply[4].(string)
	a := Awaiting{
		TraceID: trace, Wait: time.Duration(n(1)) * time.Millisecond, Attempts: n(2), Generation: n(3), Enqueued: enqueuedTime(enqueued),
	}
	value, err := l.rdb.Get(ctx, traceKey(app, trace)).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return Awaiting{}, fmt.Errorf("read the callback: %w", err)
	}
	if push, early := strings.CutPrefix(value, tracePush); early {
		a.Early = []byte(push)
	}
	return a, nil
}

// TracedTask is the task that waits for a trace_id, as Await stored it.
type TracedTask struct {
	Runner, Queue string
	Result        []byte
}

// traceScript finds the task of a push, or keeps the push.
//
// KEYS[1] trace. ARGV[1] the push, as the value of the trace, ARGV[2] ms for which it is kept
//
// Returns the value of the task, "" if none is known.
var traceScript = redis.NewScript(`
local known = redis.call("GET", KEYS[1])
if known and string.sub(known, 1, 5) == "task " then return known end
redis.call("SET", KEYS[1], ARGV[1], "PX", ARGV[2])
return ""
`)

// FindTrace returns the task of an app that waits for a push with a trace_id. known is false if there
// is none yet, or not any more; then the push is kept for Await.
func (l *Ledger) FindTrace(ctx context.Context, app, traceID string, push []byte) (t TracedTask, known bool, err error) {
	value, err := traceScript.Run(ctx, l.rdb, []string{traceKey(app, traceID)}, tracePush+string(push), earlyTrace.Milliseconds()).Text()
	if err != nil {
		return TracedTask{}, false, fmt.Errorf("find the task of the callback: %w", err)
	}
	parts := strings.SplitN(value, " ", 4)
	if len(parts) != 4 {
		return TracedTask{}, false, nil
	}
	return TracedTask{Runner: parts[1], Queue: fullQueue(app, parts[2]), Result: []byte(parts[3])}, true, nil
}

// ForgetTrace deletes what is stored for a trace_id, whose task has ended.
func (l *Ledger) ForgetTrace(ctx context.Context, app, traceID string) error {
	if err := l.rdb.Del(ctx, traceKey(app, traceID)).Err(); err != nil {
		return fmt.Errorf("forget the trace: %w", err)
	}
	return nil
}
