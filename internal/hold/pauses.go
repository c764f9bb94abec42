package hold

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/asynqwire"
)

// pauseTTL is the expiry of the pause of a hold without an end. Replicas renew the pause;
// after a crash of all replicas it must not stay for ever.
const pauseTTL = 2 * time.Minute

// pausePrefix is the prefix of the value that a hold writes into asynq's pause key. The hold's
// scope follows.
const pausePrefix = "wxcourier:"

// ParsePause returns the scope of the hold that wrote a value into asynq's pause key; ok is false
// for the value of another pause, which a person set.
func ParsePause(value string) (scope string, ok bool) {
	return strings.CutPrefix(value, pausePrefix)
}

// Pauses shows the holds in force as paused queues, for the asynq web UI: the pause key of a held
// queue is "wxcourier:<scope>" and expires when the hold ends.
//
// Holds are enforced from their records, so no delivery depends on these keys.
type Pauses struct {
	rdb    redis.UniversalClient
	types  []string
	queues func(app, typ string) []string
}

// NewPauses returns the pauses in a Redis. types are the task types, and queues returns the names
// of an app's queues of a type. It does no I/O.
func NewPauses(rdb redis.UniversalClient, types []string, queues func(app, typ string) []string) *Pauses {
	return &Pauses{rdb: rdb, types: types, queues: queues}
}

// Sync writes the pauses of some apps, and deletes those of holds that have ended. It does not
// change other pauses. holds must be all holds of these apps, from [Store.List], and the limits
// that are spent by our own count.
//
// A [Watcher] calls Sync by itself; a program that sets or lifts holds calls it, too, since no
// replica may be running.
func (p *Pauses) Sync(ctx context.Context, apps []string, holds []Hold) error {
	var now time.Time // Redis', since the local clock may be wrong
	if len(holds) > 0 {
		var err error
		if now, err = p.rdb.Time(ctx).Result(); err != nil {
			return fmt.Errorf("read the time of Redis: %w", err)
		}
	}
	queues, wanted := p.wanted(apps, holds, now)
	pauses, err := asynqwire.ReadPauses(ctx, p.rdb, queues)
	if err != nil {
		return err
	}
	pauses = slices.DeleteFunc(pauses, func(is asynqwire.Pause) bool { return upToDate(is, wanted[is.Queue]) })
	if len(pauses) == 0 {
		return nil
	}
	for i := range pauses {
		pauses[i] = pauseFor(pauses[i].Queue, wanted[pauses[i].Queue])
	}
	return asynqwire.WritePauses(ctx, p.rdb, pausePrefix, pauseTTL, pauses)
}

// wanted returns all queues of the apps, and the holds that their pauses show. A queue under
// several holds shows the one that ends last.
func (p *Pauses) wanted(apps []string, holds []Hold, now time.Time) (queues []string, wanted map[string]*Hold) {
	byApp := make(map[string][]Hold)
	for _, h := range holds {
		if h.closesLanes(now) {
			byApp[h.App] = append(byApp[h.App], h)
		}
	}
	wanted = make(map[string]*Hold)
	for _, app := range apps {
		for _, typ := range p.types {
			for _, queue := range p.queues(app, typ) {
				queues = append(queues, queue)
				if last := longest(byApp[app], app, typ, queue); last != nil {
					wanted[queue] = last
				}
			}
		}
	}
	return queues, wanted
}

// longest returns the hold that ends last of those that stop a type, or its tasks in one queue; nil
// when there is none.
func longest(holds []Hold, app, typ, queue string) *Hold {
	var last *Hold
	for _, h := range holds {
		bulk, ok := ParseBulk(h.Scope)
		stops := h.Stops(app, typ) || ok && bulk == typ && strings.HasSuffix(queue, bulkSuffix)
		if stops && (last == nil || !last.Until.IsZero() && (h.Until.IsZero() || h.Until.After(last.Until))) {
			last = &h
		}
	}
	return last
}

// upToDate reports whether there is nothing to write. The pause of a hold that stays is written
// again, since the hold's end may have changed.
func upToDate(is asynqwire.Pause, wanted *Hold) bool {
	if is.Value == "" {
		return wanted == nil
	}
	return !strings.HasPrefix(is.Value, pausePrefix)
}

// pauseFor returns the pause that shows a hold; with a nil hold, none.
func pauseFor(queue string, h *Hold) asynqwire.Pause {
	if h == nil {
		return asynqwire.Pause{Queue: queue}
	}
	return asynqwire.Pause{Queue: queue, Value: pausePrefix + h.Scope, Until: h.Until}
}
