package asynqwire

import (
	"context"

	"github.com/redis/go-redis/v9"
)

// deleteArchived deletes an archived task, unless it has changed since it was read: its id may
// have been enqueued again, or run from the web UI.
//
// KEYS[1] archive, KEYS[2] task. ARGV[1] id, ARGV[2] latest time of archiving, in seconds
//
// Returns 1, or 0 when the task has changed.
var deleteArchived = redis.NewScript(`
local at = redis.call("ZSCORE", KEYS[1], ARGV[1])
if not at or tonumber(at) > tonumber(ARGV[2]) then return 0 end
local state = redis.call("HGET", KEYS[2], "state")
if state and state ~= "archived" then return 0 end
redis.call("ZREM", KEYS[1], ARGV[1])
redis.call("DEL", KEYS[2])
return 1
`)

// DeleteArchived deletes a task from the archive of its queue, where it was archived no later
// than before (s since 1970) and is still archived. asynq's Inspector deletes it in any case.
func DeleteArchived(ctx context.Context, rdb redis.Scripter, queue, task string, before int64) (deleted bool, err error) {
	return deleteArchived.Run(ctx, rdb, []string{Key(queue, Archived), TaskKey(queue, task)}, task, before).Bool()
}

// deleteCompleted deletes some completed tasks past their retention, as asynq's janitor does.
//
// KEYS[1] completed. ARGV[1] now, in seconds, ARGV[2] the beginning of the keys of the queue's
// tasks, ARGV[3] how many
//
// Returns the number of deleted tasks.
var deleteCompleted = redis.NewScript(`
local ids = redis.call("ZRANGEBYSCORE", KEYS[1], "-inf", ARGV[1], "LIMIT", 0, ARGV[3])
for _, id in ipairs(ids) do
	redis.call("DEL", ARGV[2] .. id)
	redis.call("ZREM", KEYS[1], id)
end
return #ids
`)

// DeleteCompleted deletes up to n completed tasks of a queue whose retention has ended by now (s
// since 1970). It returns how many it deleted.
func DeleteCompleted(ctx context.Context, rdb redis.Scripter, queue string, now int64, n int) (int, error) {
	return deleteCompleted.Run(ctx, rdb, []string{Key(queue, Completed)}, now, TaskKey(queue, ""), n).Int()
}
