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

// A task is missing when the ledger has it without an outcome and asynq does not have it:
// it was deleted in the asynq web UI, or its producer died before it enqueued it. A missing
// task is ended in two steps, with a pause between them: Suspect notes since when it is
// missing, EndMissing ends it if the note still stands. A producer that marks the id again
// takes the note back, so that what it is about to enqueue is not ended. The note is
//
//   - of a mark the field "?<id>" beside it, see missingField;
//   - of a record the field "missing";
//
// and its value is a time, as marks write it.

// missingField is where the hash of a mark notes that its task is missing. No id begins
// with a question mark.
func missingField(id string) string { return "?" + id }

// OpenTask is a task without an outcome, as its mark or its record has it.
type OpenTask struct {
	App, ID, Queue       string
	Enqueued             time.Time // zero when not known
	Attempts, Generation int
	// Missing is since when the task is noted as missing; zero when it is not.
	Missing time.Time
	// Canceled: it was taken back, by itself.
	Canceled bool
	// Doubt: a request of it may have been written, and no answer came.
	Doubt bool
	// RunSince is when its run began; zero when none has it.
	RunSince time.Time

	mark    string // "" of a record
	run     string
	fence   string
	missing string
}

// marksPage is about how many marks are read at once.
const marksPage = 500

// OpenMarks reads the tasks of a hash of marks, and how many commands that took. A mark that
// cannot be read is left out: nothing says which queue its task is in.
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

// RecordsAtOnce is how many records OpenRecords takes.
const RecordsAtOnce = 100

// openRecordsScript finds the records without an outcome. One that is being redriven has its
// payload in the record, and FinishRedrives enqueues it.
//
// KEYS are records of one app.
//
// Returns, flat, for each: its place in KEYS, queue, enqueued, attempts, generation, missing,
// canceled, fence, run; "" for what is not there.
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

// OpenRecords reads those of an app's records that have no outcome and no redrive under way.
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
			return nil, errors.New("read the records: a reply out of place")
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

// suspectScript notes that a task is missing, if it stands as it was seen.
//
// KEYS[1] record, KEYS[2] marks
// ARGV[1] mark that was seen, or "" for a record, ARGV[2] id, ARGV[3] field of the note in the
// marks, ARGV[4] now
//
// Returns 1, or 0 when something else stands by now.
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

// Suspect notes since when tasks are missing.
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

// endMissingScript settles a task whose note of being missing still stands, as it was seen.
//
// KEYS and ARGV[1] to ARGV[12] are those of settle
// ARGV[13] the note, ARGV[14] the mark that was seen, or "" for a record, ARGV[15] field of
// the note in the marks, ARGV[16] run and ARGV[17] fence of the record that was seen,
// ARGV[18] 1 when the id is free again: the task never left, and was not taken back. Mark
// gives it away then, since its producer may have died before it enqueued the task.
//
// Returns what settle does; {"kept", "", ""} when something else stands by now.
var endMissingScript = redis.NewScript(`
local function stands()
	local r = redis.call("HMGET", KEYS[1], "queue", "outcome", "missing", "redrive", "run", "fence")
	if r[2] then return false end
	if ARGV[14] ~= "" then
		return not r[1] and redis.call("HGET", KEYS[5], ARGV[12]) == ARGV[14] and redis.call("HGET", KEYS[5], ARGV[15]) == ARGV[13]
	end
	return r[1] and r[3] == ARGV[13] and not r[4] and (r[5] or "") == ARGV[16] and (r[6] or "") == ARGV[17]
end
if not stands() then return {"kept", "", ""} end
redis.call("HDEL", KEYS[5], ARGV[15])
redis.call("HDEL", KEYS[1], "missing")
if ARGV[18] == "1" then redis.call("HSET", KEYS[1], "deleted", 1) end
` + readMarkLua + settleBody)

// EndMissing settles a missing task, unless it does not stand as it was seen. The ending's
// Queue and Generation are those of the task. free lets Mark give its id to a new task while
// the record is kept.
func (l *Ledger) EndMissing(ctx context.Context, t OpenTask, batch string, e Ending, free bool) (bool, error) {
	ref := Ref{App: t.App, ID: t.ID, Batch: batch}
	keys := ref.keys(TaskKey(t.App, t.ID), StreamKey(t.App), imageKey(t.App, t.ID), blobKey(t.App, t.ID), WaitingKey(t.App, t.ID))
	reply, err := endMissingScript.Run(ctx, l.rdb, keys, e.Outcome, e.Result, l.policy.Retention.Milliseconds(),
		l.policy.StreamMax, "", t.Generation, "", t.Queue, "", "", 0, t.ID,
		t.missing, t.mark, missingField(t.ID), t.run, t.fence, flag(free)).StringSlice()
	if err != nil {
		return false, fmt.Errorf("end the missing task: %w", err)
	}
	return reply[0] == "written", nil
}

// BatchOf finds the batch of each of an app's tasks among some batches, and how many commands
// that took: the one that has the id, and is open if several have it. A task in none is left
// out.
func (l *Ledger) BatchOf(ctx context.Context, app string, ids, batches []string) (of map[string]string, commands int, err error) {
	of = make(map[string]string)
	members := make([]any, len(ids))
	for i, id := range ids {
		members[i] = id
	}
	for _, batch := range batches {
		has, err := l.rdb.SMIsMember(ctx, batchIDsKey(app, batch), members...).Result()
		if commands++; err != nil {
			return nil, commands, fmt.Errorf("look for the batch: %w", err)
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
			continue // of an earlier task with this id
		}
		for _, id := range found {
			of[id] = batch
		}
	}
	return of, commands, nil
}

// Knows tells for each of an app's ids whether there is a record or a mark.
func (l *Ledger) Knows(ctx context.Context, app string, ids []string) ([]bool, error) {
	records, marks := make([]*redis.IntCmd, len(ids)), make([]*redis.BoolCmd, len(ids))
	_, err := l.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, id := range ids { // the mark first: it moves to the record
			marks[i], records[i] = p.HExists(ctx, WaitingKey(app, id), id), p.Exists(ctx, TaskKey(app, id))
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("look for the records: %w", err)
	}
	known := make([]bool, len(ids))
	for i := range ids {
		known[i] = marks[i].Val() || records[i].Val() == 1
	}
	return known, nil
}
