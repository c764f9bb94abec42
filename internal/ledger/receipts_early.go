package ledger

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// A receipt may come before the answer to its send was recorded. Such receipts are kept in a sorted set
// of their app, the score is when to look for the message again. What a member contains is up to the
// caller. Several processes may look at the same time.

const (
	// earlyExpiry is when a set expires to which nothing is added.
	earlyExpiry = 24 * time.Hour
	// maxEarly is how many receipts a set has. Those that have waited longest are dropped.
	maxEarly = 50_000
)

// earlyKey returns the key of the early receipts of an app.
func earlyKey(app string) string { return "wxcourier:{" + app + "}:early" }

// EarlyReceipt is a receipt whose message is not known yet.
type EarlyReceipt struct {
	Text string
	Due  time.Time
}

func (e EarlyReceipt) member() redis.Z {
	return redis.Z{Score: float64(e.Due.UnixMilli()), Member: e.Text}
}

// KeepEarly keeps early receipts of an app, or changes when they are due. dropped is how many others are
// dropped for them.
func (l *Ledger) KeepEarly(ctx context.Context, app string, receipts []EarlyReceipt) (dropped int64, err error) {
	if len(receipts) == 0 {
		return 0, nil
	}
	members := make([]redis.Z, len(receipts))
	for i, r := range receipts {
		members[i] = r.member()
	}
	var removed *redis.IntCmd
	_, err = l.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		p.ZAdd(ctx, earlyKey(app), members...)
		removed = p.ZRemRangeByRank(ctx, earlyKey(app), maxEarly, -1)
		p.Expire(ctx, earlyKey(app), earlyExpiry)
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("keep the early receipts: %w", err)
	}
	return removed.Val(), nil
}

// EarlyReceipts returns the first early receipts of some apps, those that are due first, in one round trip;
// most is 0 for all.
func (l *Ledger) EarlyReceipts(ctx context.Context, apps []string, most int64) (map[string][]EarlyReceipt, error) {
	replies := make([]*redis.ZSliceCmd, len(apps))
	_, _ = l.rdb.Pipelined(ctx, func(p redis.Pipeliner) error { // each command has its own error
		for i, app := range apps {
			replies[i] = p.ZRangeWithScores(ctx, earlyKey(app), 0, most-1)
		}
		return nil
	})
	early := make(map[string][]EarlyReceipt, len(apps))
	for i, app := range apps {
		members, err := replies[i].Result()
		if redis.HasErrorPrefix(err, "WRONGTYPE") {
			continue // another program has overwritten it
		}
		if err != nil {
			return nil, fmt.Errorf("read the early receipts: %w", err)
		}
		for _, z := range members {
			text, _ := z.Member.(string)
			early[app] = append(early[app], EarlyReceipt{Text: text, Due: time.UnixMilli(int64(z.Score))})
		}
	}
	return early, nil
}

// DropEarly removes early receipts of an app. It returns how many were there: another process may have
// removed some.
func (l *Ledger) DropEarly(ctx context.Context, app string, texts []string) (int64, error) {
	if len(texts) == 0 {
		return 0, nil
	}
	members := make([]any, len(texts))
	for i, text := range texts {
		members[i] = text
	}
	n, err := l.rdb.ZRem(ctx, earlyKey(app), members...).Result()
	if err != nil {
		return 0, fmt.Errorf("remove early receipts: %w", err)
	}
	return n, nil
}
