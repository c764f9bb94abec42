package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/redis/go-redis/v9"
)

// Redrivable returns the outcomes that a redrive may undo. Their tasks failed for a reason that
// can be fixed, or it is unknown whether they succeeded.
func Redrivable() []string { return []string{"unknown", "failed", "rejected"} }

// historyMax is the maximum number of earlier outcomes in a record.
const historyMax = 10

// TaskContent is the content of a task, stored for a redrive: asynq does not keep rejected tasks,
// and its archive is limited.
type TaskContent struct {
	Payload []byte // empty: nothing is stored
	Headers map[string]string
}

// redrivableContent returns the payload and headers to store with this outcome; nil if the outcome
// is not redrivable.
func (e SettleRequest) redrivableContent() (payload, headers []byte) {
	if len(e.Content.Payload) == 0 || !slices.Contains(Redrivable(), e.Outcome) {
		return nil, nil
	}
	headers, _ = json.Marshal(e.Content.Headers) // cannot fail on strings
	return e.Content.Payload, headers
}

// RedriveState is a record as a redrive needs it.
type RedriveState struct {
	Outcome    string // "" if there is none
	Result     []byte
	Generation int
	Queue      string
	Content    TaskContent
	History    []PastOutcome // the oldest first
	InProgress bool          // a redrive was begun, and it is not confirmed that asynq has the task
}

// PastOutcome is an outcome that a redrive has undone.
type PastOutcome struct {
	Generation int             `json:"generation"`
	Outcome    string          `json:"outcome"`
	Result     json.RawMessage `json:"result"`
}

// RedriveState reads a record for a redrive. It returns ErrNotFound if there is none.
func (l *Ledger) RedriveState(ctx context.Context, app, id string) (RedriveState, error) {
	s, err := l.state(ctx, app, id, "outcome", "result", "generation", "payload", "headers", "history", "redrive")
	if err != nil {
		return RedriveState{}, err
	}
	f := s.fields
	e := RedriveState{Outcome: f[0], Result: []byte(f[1]), Queue: s.queue, Content: TaskContent{Payload: []byte(f[3])}, InProgress: f[6] != ""}
	e.Generation, _ = strconv.Atoi(f[2])
	for i, into := range map[int]any{4: &e.Content.Headers, 5: &e.History} {
		if f[i] == "" {
			continue
		}
		if err := json.Unmarshal([]byte(f[i]), into); err != nil {
			return RedriveState{}, fmt.Errorf("read the record of %s: %w", id, err)
		}
	}
	return e, nil
}

// beginRedriveScript undoes an outcome: the task waits again, in its next generation. Earlier
// cancellations of its batch no longer apply to it. Its last answer becomes one of those in the log.
//
// KEYS[1] record, KEYS[2] redrives, KEYS[3] blob, KEYS[4] batch, KEYS[5] ids of the batch
// (4 and 5 only with a batch)
// ARGV[1] id, ARGV[2] result and ARGV[3] generation as read, ARGV[4] the history including them
//
// Returns 1, also when it is called a second time; 0 when the record has changed.
var beginRedriveScript = redis.NewScript(`
local seen = tonumber(ARGV[3])
local record = redis.call("HMGET", KEYS[1], "outcome", "result", "generation", "payload", "redrive")
local outcome, result, generation = record[1], record[2], tonumber(record[3] or 0)
if not outcome and record[5] and generation == seen + 1 then return 1 end
if not outcome or result ~= ARGV[2] or generation ~= seen or not record[4] then return 0 end
redis.call("HSET", KEYS[1], "state", "waiting", "generation", seen + 1, "history", ARGV[4], "redrive", 1)
` + logLua + `
redis.call("HDEL", KEYS[1], "outcome", "result", "fence", "run", "lost", "attempts", "canceled", "pardon", "last", "last_msg", "last_wait", "receipt")
redis.call("PERSIST", KEYS[1])
redis.call("PERSIST", KEYS[3])
redis.call("SADD", KEYS[2], ARGV[1])
if KEYS[4] then
	if redis.call("SADD", KEYS[5], ARGV[1]) == 1 then
		redis.call("HINCRBY", KEYS[4], "total", 1)
	else
		redis.call("HINCRBY", KEYS[4], outcome, -1)
		redis.call("HINCRBY", KEYS[4], "done", -1)
	end
	redis.call("PERSIST", KEYS[4])
	redis.call("PERSIST", KEYS[5])
	redis.call("HSET", KEYS[1], "pardon", redis.call("HGET", KEYS[4], "withdrawals") or 0)
end
return 1
`)

// BeginRedrive undoes the outcome in e: the task waits again, in its next generation, and its batch
// counts it as open. The redrive is in progress until FinishRedrive is called. BeginRedrive returns
// false if the record has changed since e was read.
func (l *Ledger) BeginRedrive(ctx context.Context, ref Ref, e RedriveState) (bool, error) {
	if !slices.Contains(Redrivable(), e.Outcome) {
		return false, fmt.Errorf("redrive %s: the outcome %q cannot be redriven", ref.ID, e.Outcome)
	}
	history := append(slices.Clone(e.History), PastOutcome{e.Generation, e.Outcome, e.Result})
	text, err := json.Marshal(history[max(0, len(history)-historyMax):])
	if err != nil {
		return false, fmt.Errorf("redrive %s: encode its history: %w", ref.ID, err)
	}
	keys := ref.keys(TaskKey(ref.App, ref.ID), redrivesKey(ref.App), blobKey(ref.App, ref.ID))
	done, err := beginRedriveScript.Run(ctx, l.rdb, keys, ref.ID, e.Result, e.Generation, text).Bool()
	if err != nil {
		return false, fmt.Errorf("redrive %s: %w", ref.ID, err)
	}
	return done, nil
}

// finishRedriveScript ends a redrive once asynq has the task, and deletes the payload from the
// record.
//
// KEYS[1] record, KEYS[2] redrives. ARGV[1] id, ARGV[2] generation that was enqueued
//
// A later redrive of the task has another generation, and is not affected.
var finishRedriveScript = redis.NewScript(`
local record = redis.call("HMGET", KEYS[1], "generation", "outcome", "redrive")
local generation, outcome, underway = record[1], record[2], record[3]
if generation and generation ~= ARGV[2] and underway then return 0 end
redis.call("SREM", KEYS[2], ARGV[1])
if underway and not outcome then redis.call("HDEL", KEYS[1], "redrive", "payload", "headers") end
return 1
`)

// FinishRedrive ends the redrive of a generation. Call it once asynq has the task.
func (l *Ledger) FinishRedrive(ctx context.Context, app, id string, generation int) error {
	if err := finishRedriveScript.Run(ctx, l.rdb, []string{TaskKey(app, id), redrivesKey(app)}, id, generation).Err(); err != nil {
		return fmt.Errorf("redrive %s: %w", id, err)
	}
	return nil
}

// RedrivesInProgress returns the ids of an app whose redrives were begun and not ended. The caller that
// began a redrive may still be running, or may have died.
func (l *Ledger) RedrivesInProgress(ctx context.Context, app string) ([]string, error) {
	ids, err := l.rdb.SMembers(ctx, redrivesKey(app)).Result()
	if err != nil {
		return nil, fmt.Errorf("read the redrives in progress: %w", err)
	}
	return ids, nil
}

// IsRedriveInProgress reports whether a redrive of the task was begun and is not known to have reached
// asynq.
func (l *Ledger) IsRedriveInProgress(ctx context.Context, app, id string) (bool, error) {
	yes, err := l.rdb.HExists(ctx, TaskKey(app, id), "redrive").Result()
	if err != nil {
		return false, fmt.Errorf("read the record: %w", err)
	}
	return yes, nil
}

// batchPage is the approximate number of ids that one SSCAN returns.
const batchPage = 500

// BatchEnded reads a page of a batch: the ids of tasks with one of the outcomes. Begin with the
// cursor 0; the returned cursor is 0 after the last page. An id may occur twice. BatchEnded
// returns ErrNotFound if there is no such batch.
func (l *Ledger) BatchEnded(ctx context.Context, ref Ref, cursor uint64, outcomes []string) ([]string, uint64, error) {
	key := batchIDsKey(ref.App, ref.Batch)
	ids, next, err := l.rdb.SScan(ctx, key, cursor, "", batchPage).Result()
	if err != nil {
		return nil, 0, fmt.Errorf("read the batch: %w", err)
	}
	if cursor == 0 && next == 0 && len(ids) == 0 {
		return nil, 0, ErrNotFound
	}
	records := make([]*redis.StringCmd, len(ids))
	_, err = l.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, id := range ids {
			records[i] = p.HGet(ctx, TaskKey(ref.App, id), "outcome")
		}
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) {
		return nil, 0, fmt.Errorf("read the batch: %w", err)
	}
	var ended []string
	for i, id := range ids {
		outcome, err := records[i].Result()
		if err != nil && !errors.Is(err, redis.Nil) {
			return nil, 0, fmt.Errorf("read the batch: %w", err)
		}
		if slices.Contains(outcomes, outcome) {
			ended = append(ended, id)
		}
	}
	return ended, next, nil
}
