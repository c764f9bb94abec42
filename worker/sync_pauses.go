package worker

import (
	"context"
	_ "embed" // the script
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/backlog"
	"github.com/wxcourier/wxcourier/internal/hold"
	"github.com/wxcourier/wxcourier/tasks"
)

// pauseTTL is the expiry of the pause of a hold without an end. Replicas renew the pause;
// after a crash of all replicas it must not stay for ever.
const pauseTTL = 2 * time.Minute

var (
	//go:embed sync_pauses.lua
	syncPauseSource string
	syncPauseScript = redis.NewScript(syncPauseSource)
)

// SyncPauses writes the holds in force of some apps to asynq's pause keys, for the asynq web
// UI: the key of a held queue is "wxcourier:<scope>" and expires when the hold ends. It
// deletes keys of holds that have ended, and does not change other pauses, which a person
// set. holds must be all holds of these apps, from [ratelimit.Limiter.Holds].
//
// Holds are enforced from their records, so no delivery depends on these keys. Replicas call
// SyncPauses by themselves; a program that sets or lifts holds calls it, too, since no
// replica may be running.
func SyncPauses(ctx context.Context, rdb redis.UniversalClient, apps []string, holds []hold.Hold) error {
	var now time.Time // Redis', since the local clock may be wrong
	if len(holds) > 0 {
		var err error
		if now, err = rdb.Time(ctx).Result(); err != nil {
			return fmt.Errorf("read the time of Redis: %w", err)
		}
	}
	pauses, err := readPauses(ctx, rdb, pausesOf(apps, holds, now))
	if err != nil {
		return fmt.Errorf("read the pauses of the queues: %w", err)
	}
	pauses = slices.DeleteFunc(pauses, pause.upToDate)
	if len(pauses) == 0 {
		return nil
	}
	err = writePauses(ctx, rdb, pauses, syncPauseScript.EvalSha)
	if redis.HasErrorPrefix(err, "NOSCRIPT") {
		err = writePauses(ctx, rdb, pauses, syncPauseScript.Eval)
	}
	if err != nil {
		return fmt.Errorf("write the pauses of the queues: %w", err)
	}
	return nil
}

// closesLanes reports whether a hold ends later than dueSoon, so that its lanes close and
// their queues are shown as paused. For one that ends sooner the lanes stay open, and their gates
// wait for its end.
func closesLanes(h hold.Hold, now time.Time) bool {
	return h.Until.IsZero() || h.Until.Sub(now) > dueSoon
}

// pause is asynq's pause key of a queue, with its current value and the hold to write there.
type pause struct {
	key     string
	current string     // "" for none
	hold    *hold.Hold // nil for none
}

// upToDate reports whether there is nothing to write. A pause of a hold that stays is
// written again, since the hold's end may have changed.
func (p pause) upToDate() bool {
	if p.current == "" {
		return p.hold == nil
	}
	return !strings.HasPrefix(p.current, backlog.HoldMark)
}

// pausesOf returns the pauses of all queues of the apps. A queue under several holds shows
// the one that ends last.
func pausesOf(apps []string, holds []hold.Hold, now time.Time) []pause {
	holds = slices.DeleteFunc(slices.Clone(holds), func(h hold.Hold) bool { return !closesLanes(h, now) })
	byApp := make(map[string][]hold.Hold)
	for _, h := range holds {
		byApp[h.App] = append(byApp[h.App], h)
	}
	var pauses []pause
	for _, app := range apps {
		for _, spec := range tasks.Catalog() {
			hold := longestHold(byApp[app], laneKey{app, spec.Type})
			for _, priority := range []tasks.Priority{tasks.Urgent, tasks.Bulk} {
				pauses = append(pauses, pause{key: "asynq:{" + tasks.QueueName(app, spec.Type, priority) + "}:paused", hold: hold})
			}
		}
	}
	return pauses
}

// longestHold returns the hold of a lane that ends last; nil when there is none.
func longestHold(holds []hold.Hold, key laneKey) *hold.Hold {
	var last *hold.Hold
	for _, h := range holds {
		if h.Stops(key.app, key.typ) && (last == nil || !last.Until.IsZero() && (h.Until.IsZero() || h.Until.After(last.Until))) {
			last = &h
		}
	}
	return last
}

// readPauses reads the current values of the pauses.
func readPauses(ctx context.Context, rdb redis.UniversalClient, pauses []pause) ([]pause, error) {
	if _, cluster := rdb.(*redis.ClusterClient); cluster { // a command may not have keys of two queues
		return getPauses(ctx, rdb, pauses)
	}
	for chunk := range slices.Chunk(pauses, existsChunk) {
		keys := make([]string, len(chunk))
		for i, p := range chunk {
			keys[i] = p.key
		}
		values, err := rdb.MGet(ctx, keys...).Result()
		if err != nil {
			return nil, err
		}
		for i, v := range values {
			chunk[i].current, _ = v.(string)
		}
	}
	return pauses, nil
}

// getPauses reads the current values by one GET a key, for Redis Cluster.
func getPauses(ctx context.Context, rdb redis.UniversalClient, pauses []pause) ([]pause, error) {
	replies := make([]*redis.StringCmd, len(pauses))
	_, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i := range pauses {
			replies[i] = p.Get(ctx, pauses[i].key)
		}
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) {
		return nil, err
	}
	for i, r := range replies {
		if err := r.Err(); err != nil && !errors.Is(err, redis.Nil) {
			return nil, err
		}
		pauses[i].current = r.Val()
	}
	return pauses, nil
}

// writePauses sends the script for each pause. how is the script's Eval or EvalSha.
func writePauses(ctx context.Context, rdb redis.UniversalClient, pauses []pause,
	how func(context.Context, redis.Scripter, []string, ...any) *redis.Cmd,
) error {
	_, err := rdb.Pipelined(ctx, func(to redis.Pipeliner) error {
		for _, p := range pauses {
			value, until := "", int64(0)
			if p.hold != nil {
				value = backlog.HoldMark + p.hold.Scope
				if !p.hold.Until.IsZero() {
					until = p.hold.Until.UnixMilli()
				}
			}
			how(ctx, to, []string{p.key}, backlog.HoldMark, value, until, pauseTTL.Milliseconds())
		}
		return nil
	})
	return err
}
