package wxcouriertest

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/asynqwire"
	"github.com/wxcourier/wxcourier/internal/calendar"
)

// Now returns the time by the kit's clock, in Asia/Shanghai. It begins as the real time.
func (k *Kit) Now() time.Time {
	return time.Now().Add(time.Duration(k.ahead.Load())).In(calendar.Shanghai())
}

// Advance moves the kit's clock forward, and with it that of Redis, of WeChat and of the worker.
//
// A running worker is stopped before and started after: the calls in flight end at the old time,
// and no call falls between the times. A task that was enqueued just before may be sent at
// either; [Kit.StopWorker] keeps it until the new time.
func (k *Kit) Advance(d time.Duration) {
	k.t.Helper()
	if d < 0 {
		k.t.Fatalf("wxcouriertest: Advance(%v): the clock moves forward only", d)
	}
	k.mu.Lock()
	running := k.running != nil
	k.mu.Unlock()
	k.StopWorker()
	if err := k.moveClock(d); err != nil {
		k.t.Fatalf("wxcouriertest: Advance(%v): %v", d, err)
	}
	if running {
		k.StartWorker()
	}
}

// AdvanceTo moves the kit's clock forward to the next time of day, such as "08:00", in
// Asia/Shanghai, as [Kit.Advance] does: to that of today if it is still to come, else of
// tomorrow.
func (k *Kit) AdvanceTo(timeOfDay string) {
	k.t.Helper()
	at, err := time.Parse("15:04", timeOfDay)
	if err != nil {
		k.t.Fatalf("wxcouriertest: AdvanceTo(%q): write it like 08:00", timeOfDay)
	}
	now := k.Now()
	next := time.Date(now.Year(), now.Month(), now.Day(), at.Hour(), at.Minute(), 0, 0, now.Location())
	if !next.After(now) {
		next = next.AddDate(0, 0, 1)
	}
	k.Advance(next.Sub(now))
}

// moveClock moves the clocks while no worker runs.
func (k *Kit) moveClock(d time.Duration) error {
	ctx := context.Background()
	k.ahead.Add(int64(d))
	k.server.Advance(d)
	// The times of asynq's retry set are real: a delay that began at the time of the attempt.
	queues, err := k.rdb.SMembers(ctx, asynqwire.Queues).Result()
	if err != nil {
		return fmt.Errorf("list the queues: %w", err)
	}
	for _, queue := range queues {
		key := asynqwire.Key(queue, asynqwire.Retry)
		waiting, err := k.rdb.ZRangeWithScores(ctx, key, 0, -1).Result()
		if err != nil {
			return fmt.Errorf("read the retries: %w", err)
		}
		for i := range waiting {
			waiting[i].Score -= d.Seconds()
		}
		if len(waiting) == 0 {
			continue
		}
		if err := k.rdb.ZAddArgs(ctx, key, redis.ZAddArgs{XX: true, Members: waiting}).Err(); err != nil {
			return fmt.Errorf("move the retries: %w", err)
		}
	}
	return k.runDue(ctx, asynqwire.Retry, time.Now())
}
