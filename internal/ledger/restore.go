package ledger

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// restoreScript creates the record of a task whose request got no answer, unless there is a
// record or a mark. Its runner is dead: the record has a fence and no run, so that the next
// runner need not wait. The time of enqueuing is unknown: the time of the first request stands in
// for it.
//
// KEYS[1] record, KEYS[2] marks
// ARGV[1] queue, ARGV[2] state, ARGV[3] attempts, ARGV[4] runner, ARGV[5] time of the request
// and ARGV[6] of the first one without an answer, ms since 1970, ARGV[7] the latter in the
// format of marks, as the time of enqueuing, ARGV[8] id
//
// Returns 1, or 0 when there is a record or a mark.
var restoreScript = redis.NewScript(`
if redis.call("EXISTS", KEYS[1]) == 1 or redis.call("HEXISTS", KEYS[2], ARGV[8]) == 1 then return 0 end
redis.call("HSET", KEYS[1], "queue", ARGV[1], "state", ARGV[2], "generation", 0, "enqueued", ARGV[7], "attempts", ARGV[3], "fence",
	string.format('{"runner":"%s","attempt":%s,"since":%s,"first":%s,"doubt":0}', ARGV[4], ARGV[3], ARGV[5], ARGV[6]))
return 1
`)

// restoredRunner is the runner of restored requests. No replica uses this name.
const restoredRunner = "restored"

// PendingRequest is a request without an answer of an earlier process.
type PendingRequest struct {
	Queue        string
	State        string // of the record until the task is opened
	Attempts     int    // runs of the task that made a call, including that one
	First, Since time.Time
}

// Restore restores the record of a task in a Redis that has lost it. Open then decides as it
// would have with the original record. The counters of a batch are not restored.
func (l *Ledger) Restore(ctx context.Context, ref Ref, p PendingRequest) error {
	keys := []string{TaskKey(ref.App, ref.ID), WaitingKey(ref.App, ref.ID)}
	err := restoreScript.Run(ctx, l.rdb, keys, p.Queue, p.State, p.Attempts, restoredRunner, p.Since.UnixMilli(),
		p.First.UnixMilli(), enqueuedText(p.First), ref.ID).Err()
	if err != nil {
		return fmt.Errorf("restore the record: %w", err)
	}
	return nil
}
