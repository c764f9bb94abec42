package ledger

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// restoreScript makes the record of a task whose request got no answer, unless there is one, or a
// mark. Its runner is dead: the record has a fence and no run, so that whoever opens the
// task next need not wait. Nobody knows when it was enqueued: its first request is the
// nearest to that.
//
// KEYS[1] record, KEYS[2] marks
// ARGV[1] queue, ARGV[2] state, ARGV[3] attempts, ARGV[4] runner, ARGV[5] ms since 1970 of
// the request, ARGV[6] of the first that got no answer, ARGV[7] that one as the time of
// enqueuing, ARGV[8] id
//
// Returns 1, or 0 when there is a record or a mark.
var restoreScript = redis.NewScript(`
if redis.call("EXISTS", KEYS[1]) == 1 or redis.call("HEXISTS", KEYS[2], ARGV[8]) == 1 then return 0 end
redis.call("HSET", KEYS[1], "queue", ARGV[1], "state", ARGV[2], "generation", 0, "enqueued", ARGV[7], "attempts", ARGV[3], "fence",
	string.format('{"runner":"%s","attempt":%s,"since":%s,"first":%s,"doubt":0}', ARGV[4], ARGV[3], ARGV[5], ARGV[6]))
return 1
`)

// restoredRunner is the name of runners of earlier processes. No runner of a replica has it.
const restoredRunner = "restored"

// Unanswered is a request of an earlier process that got no answer.
type Unanswered struct {
	Queue        string
	State        string // until it is opened
	Attempts     int    // runs of the task that called, that one included
	First, Since time.Time
}

// Restore brings the record of a task back into a Redis that has lost it. Open then
// judges it as it would have there. The counters of a batch are not restored.
func (l *Ledger) Restore(ctx context.Context, ref Ref, u Unanswered) error {
	keys := []string{TaskKey(ref.App, ref.ID), WaitingKey(ref.App, ref.ID)}
	err := restoreScript.Run(ctx, l.rdb, keys, u.Queue, u.State, u.Attempts, restoredRunner, u.Since.UnixMilli(),
		u.First.UnixMilli(), enqueuedText(u.First), ref.ID).Err()
	if err != nil {
		return fmt.Errorf("restore the record: %w", err)
	}
	return nil
}
