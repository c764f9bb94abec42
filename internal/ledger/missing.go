package ledger

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// A task is missing when the ledger has it without an outcome and asynq does not have it: it was
// deleted in the asynq web UI, or its producer died before it enqueued the task. A missing task
// is ended in two steps, with a pause between them: Suspect stores a note with the time, and
// EndMissing ends the task if the note is still there. A producer that marks the id again deletes
// the note, so that the task that it is about to enqueue is not ended. The note is
//
//   - for a mark the field "?<id>" of the same hash, see missingField;
//   - for a record the field "missing".
//
// Its value is a time in the format of marks.

// missingField returns the field of the note for a mark. No id begins with a question mark.
func missingField(id string) string { return "?" + id }

// OpenTask is a task without an outcome, as read from its mark or record.
type OpenTask struct {
	App, ID, Queue       string
	Enqueued             time.Time // zero if unknown
	Attempts, Generation int
	// Missing is the time of the note that the task is missing; zero without a note.
	Missing time.Time
	// Canceled: the task itself was canceled, not only its batch.
	Canceled bool
	// Doubt: a request of the task may have been sent, and got no answer.
	Doubt bool
	// RunSince is the start of the current run; zero without one.
	RunSince time.Time

	mark    string // "" for a record
	run     string
	fence   string
	missing string
}

// marksPage is the approximate number of marks that one HSCAN returns.
const marksPage = 500

// OpenMarks reads the tasks of a hash of marks. It also returns the number of commands sent. A
// mark that cannot be parsed is left out, since the queue of its task is unknown.
func (l *Ledger) OpenMarks(ctx context.Context, app, key string) (open []OpenTask, commands int, err error) {
	marks, notes := make(map[string]string), make(map[string]string)
	for cursor := uint64(0); ; {
		fields, next, err := l.rdb.HScan(ctx, key, cursor, "", marksPage).Result()
		if commands++; err != nil {
			return nil, commands, fmt.Errorf("read the marks: %w", err)
		}
		for i := 0; i+1 < len(fields); i += 2 {
			if id, note := strings.CutPrefix(fields[i], "?"); note {
				notes[id] = fields[i+1]
			} else {
				marks[fields[i]] = fields[i+1]
			}
		}
		if cursor = next; cursor == 0 {
			break
		}
	}
	for id, mark := range marks {
		parts := markPattern.FindStringSubmatch(mark)
		if parts == nil {
			continue
		}
		open = append(open, OpenTask{
			App: app, ID: id, Queue: fullQueue(app, parts[2]), Enqueued: enqueuedTime(parts[1]),
			Missing: enqueuedTime(notes[id]), mark: mark, missing: notes[id],
		})
	}
	return open, commands, nil
}

// RecordsAtOnce is the maximum number of ids for OpenRecords.
const RecordsAtOnce = 100

// openRecordsScript returns the records without an outcome, except those of redrives in
// progress: their payload is in the record, and FinishRedrives enqueues it.
//
// KEYS are records of one app.
//
// Returns, flat, for each: its index in KEYS, queue, enqueued, attempts, generation, missing,
// canceled, fence, run; "" for missing fields.
var openRecordsScript = redis.NewScript(`
local reply = {}
for i, key in ipairs(KEYS) do
	if redis.call("HEXISTS", key, "outcome") == 0 then
		local r = redis.call("HMGET", key, "queue", "enqueued", "attempts", "generation", "missing", "canceled", "fence", "run", "redrive")
		if r[1] and not r[9] then
			reply[#reply + 1] = tostring(i)
			for f = 1, 8 do reply[#reply + 1] = r[f] or "" end
		end
	end
end
return reply
`)

// OpenRecords reads those of an app's records that have no outcome and no redrive in progress.
func (l *Ledger) OpenRecords(ctx context.Context, app string, ids []string) ([]OpenTask, error) {
	keys := make([]string, len(ids))
	for i, id := range ids {
		keys[i] = TaskKey(app, id)
	}
	reply, err := openRecordsScript.Run(ctx, l.rdb, keys).StringSlice()
	if err != nil {
		return nil, fmt.Errorf("read the records: %w", err)
	}
	const width = 9
	var open []OpenTask
	for ; len(reply) >= width; reply = reply[width:] {
		place, err := strconv.Atoi(reply[0])
		if err != nil || place < 1 || place > len(ids) {
			return nil, errors.New("read the records: invalid index in the reply")
		}
		t := OpenTask{
			App: app, ID: ids[place-1], Queue: fullQueue(app, reply[1]), Enqueued: enqueuedTime(reply[2]),
			Missing: enqueuedTime(reply[5]), Canceled: reply[6] != "", Doubt: reply[7] != "",
			missing: reply[5], fence: reply[7], run: reply[8],
		}
		t.Attempts, _ = strconv.Atoi(reply[3])
		t.Generation, _ = strconv.Atoi(reply[4])
		if _, since, ok := strings.Cut(t.run, " "); ok {
			ms, _ := strconv.ParseInt(since, 10, 64)
			t.RunSince = time.UnixMilli(ms)
		}
		open = append(open, t)
	}
	return open, nil
}

// suspectScript notes that a task is missing, unless it has changed since it was read.
//
// KEYS[1] record, KEYS[2] marks
// ARGV[1] mark as read, or "" for a record, ARGV[2] id, ARGV[3] field of the note in the marks,
// ARGV[4] now
//
// Returns 1, or 0 when the task has changed.
var suspectScript = redis.NewScript(`
if ARGV[1] ~= "" then
	if redis.call("HGET", KEYS[2], ARGV[2]) ~= ARGV[1] then return 0 end
	redis.call("HSET", KEYS[2], ARGV[3], ARGV[4])
	return 1
end
local record = redis.call("HMGET", KEYS[1], "queue", "outcome")
if not record[1] or record[2] then return 0 end
redis.call("HSET", KEYS[1], "missing", ARGV[4])
return 1
`)

// Suspect stores the note that tasks are missing since now, except for tasks that have changed.
func (l *Ledger) Suspect(ctx context.Context, all []OpenTask, now time.Time) error {
	eval := suspectScript.EvalSha
	for range 2 {
		_, err := l.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
			for _, t := range all {
				eval(ctx, p, []string{TaskKey(t.App, t.ID), WaitingKey(t.App, t.ID)}, t.mark, t.ID, missingField(t.ID), enqueuedText(now))
			}
			return nil
		})
		switch {
		case redis.HasErrorPrefix(err, "NOSCRIPT"):
			eval = suspectScript.Eval
		case err != nil:
			return fmt.Errorf("note the missing tasks: %w", err)
		default:
			return nil
		}
	}
	return nil
}

// endMissingScript settles a missing task, unless the task or its note have changed since they
// were read.
//
// KEYS and ARGV[1] to ARGV[13] are those of settleScript
// ARGV[14] note, ARGV[15] mark, or "" for a record, ARGV[16] field of the note in the marks,
// ARGV[17] run and ARGV[18] fence of the record, all as read, ARGV[19] 1 when the id becomes
// free: the task was never sent and not canceled. Mark may then claim the id for a new task,
// since the producer may have died before it enqueued this one.
//
// Returns what settleScript returns, or {"kept", "", ""} when something has changed.
var endMissingScript = redis.NewScript(`
local function unchanged()
	local r = redis.call("HMGET", KEYS[1], "queue", "outcome", "missing", "redrive", "run", "fence")
	if r[2] then return false end
	if ARGV[15] ~= "" then
		return not r[1] and redis.call("HGET", KEYS[5], ARGV[12]) == ARGV[15] and redis.call("HGET", KEYS[5], ARGV[16]) == ARGV[14]
	end
	return r[1] and r[3] == ARGV[14] and not r[4] and (r[5] or "") == ARGV[17] and (r[6] or "") == ARGV[18]
end
if not unchanged() then return {"kept", "", ""} end
redis.call("HDEL", KEYS[5], ARGV[16])
redis.call("HDEL", KEYS[1], "missing")
if ARGV[19] == "1" then redis.call("HSET", KEYS[1], "deleted", 1) end
` + readMarkLua + settleBody)

// EndMissing settles a missing task, and returns false if the task has changed since it was
// read. It uses the task's Queue and Generation, not the request's. With free, Mark may claim the
// id for a new task while the record still exists.
func (l *Ledger) EndMissing(ctx context.Context, t OpenTask, batch string, e SettleRequest, free bool) (bool, error) {
	ref := Ref{App: t.App, ID: t.ID, Batch: batch}
	keys := ref.keys(TaskKey(t.App, t.ID), StreamKey(t.App), imageKey(t.App, t.ID), blobKey(t.App, t.ID), WaitingKey(t.App, t.ID),
		cutKey(t.App))
	reply, err := endMissingScript.Run(ctx, l.rdb, keys, e.Outcome, e.Result, l.policy.Retention.Milliseconds(),
		l.policy.StreamMax, "", t.Generation, "", t.Queue, "", "", 0, t.ID, l.policy.streamRetention().Milliseconds(),
		t.missing, t.mark, missingField(t.ID), t.run, t.fence, flag(free)).StringSlice()
	if err != nil {
		return false, fmt.Errorf("end the missing task: %w", err)
	}
	return reply[0] == "written", nil
}

// BatchOf finds the batches of an app's tasks among some batches: the batch that contains the
// id and is still open. A task in none of them is left out. It also returns the number of
// commands sent.
func (l *Ledger) BatchOf(ctx context.Context, app string, ids, batches []string) (of map[string]string, commands int, err error) {
	of = make(map[string]string)
	members := make([]any, len(ids))
	for i, id := range ids {
		members[i] = id
	}
	for _, batch := range batches {
		has, err := l.rdb.SMIsMember(ctx, batchIDsKey(app, batch), members...).Result()
		if commands++; err != nil {
			return nil, commands, fmt.Errorf("find the batch: %w", err)
		}
		var found []string
		for i, yes := range has {
			if yes {
				found = append(found, ids[i])
			}
		}
		if len(found) == 0 {
			continue
		}
		counts, err := l.Batch(ctx, app, batch)
		if commands++; err != nil && !errors.Is(err, ErrNotFound) {
			return nil, commands, err
		}
		if counts["done"] >= counts["total"] {
			continue // of an earlier task with the same id
		}
		for _, id := range found {
			of[id] = batch
		}
	}
	return of, commands, nil
}

// Ended reports for each of an app's ids whether there is a record with an outcome.
func (l *Ledger) Ended(ctx context.Context, app string, ids []string) ([]bool, error) {
	replies := make([]*redis.BoolCmd, len(ids))
	_, err := l.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, id := range ids {
			replies[i] = p.HExists(ctx, TaskKey(app, id), "outcome")
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the records: %w", err)
	}
	ended := make([]bool, len(ids))
	for i, reply := range replies {
		ended[i] = reply.Val()
	}
	return ended, nil
}

// Exist reports for each of an app's ids whether there is a record or a mark.
func (l *Ledger) Exist(ctx context.Context, app string, ids []string) ([]bool, error) {
	records, marks := make([]*redis.IntCmd, len(ids)), make([]*redis.BoolCmd, len(ids))
	_, err := l.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, id := range ids { // the mark first, since it moves to the record
			marks[i], records[i] = p.HExists(ctx, WaitingKey(app, id), id), p.Exists(ctx, TaskKey(app, id))
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read marks and records: %w", err)
	}
	known := make([]bool, len(ids))
	for i := range ids {
		known[i] = marks[i].Val() || records[i].Val() == 1
	}
	return known, nil
}
