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
	// maxEarly is how many receipts a set has. Those that are due last are dropped.
	maxEarly = 50_000
)

// earlyKey returns the key of the early receipts of an app.
func earlyKey(app string) string { return "wxcourier:{" + app + "}:early" }

// EarlyReceipt is a receipt whose message is not known yet.
type EarlyReceipt struct {
	Text string
	Due  time.Time
}

func members(receipts []EarlyReceipt) []redis.Z {
	all := make([]redis.Z, len(receipts))
	for i, r := range receipts {
		all[i] = redis.Z{Score: float64(r.Due.UnixMilli()), Member: r.Text}
	}
	return all
}

// KeepEarly adds early receipts of an app. dropped is how many others are dropped for them.
func (l *Ledger) KeepEarly(ctx context.Context, app string, receipts []EarlyReceipt) (dropped int64, err error) {
	if len(receipts) == 0 {
		return 0, nil
	}
	var removed *redis.IntCmd
	_, err = l.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		p.ZAdd(ctx, earlyKey(app), members(receipts)...)
		removed = p.ZRemRangeByRank(ctx, earlyKey(app), maxEarly, -1)
		p.Expire(ctx, earlyKey(app), earlyExpiry)
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("keep the early receipts: %w", err)
	}
	return removed.Val(), nil
}

// PostponeEarly changes when early receipts of an app are due. It does not add those that another process
// has removed meanwhile.
func (l *Ledger) PostponeEarly(ctx context.Context, app string, receipts []EarlyReceipt) error {
	if len(receipts) == 0 {
		return nil
	}
	_, err := l.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		p.ZAddArgs(ctx, earlyKey(app), redis.ZAddArgs{XX: true, Members: members(receipts)})
		p.Expire(ctx, earlyKey(app), earlyExpiry)
		return nil
	})
	if err != nil {
		return fmt.Errorf("postpone early receipts: %w", err)
	}
	return nil
}

// EarlyReceipts returns the first early receipts of some apps, those that are due first, in one round trip;
// most is 0 for all. An error is that of some of the apps; the receipts of the others are returned with it.
func (l *Ledger) EarlyReceipts(ctx context.Context, apps []string, most int64) (early map[string][]EarlyReceipt, fault error) {
	replies := make([]*redis.ZSliceCmd, len(apps))
	_, _ = l.rdb.Pipelined(ctx, func(p redis.Pipeliner) error { // each command has its own error
		for i, app := range apps {
			replies[i] = p.ZRangeWithScores(ctx, earlyKey(app), 0, most-1)
		}
		return nil
	})
	early = make(map[string][]EarlyReceipt, len(apps))
	for i, app := range apps {
		receipts, err := replies[i].Result()
		if redis.HasErrorPrefix(err, "WRONGTYPE") {
			continue // another program has overwritten it
		}
		if err != nil {
			fault = fmt.Errorf("read the early receipts: %w", err)
			continue
		}
		for _, z := range receipts {
			text, _ := z.Member.(string)
			early[app] = append(early[app], EarlyReceipt{Text: text, Due: time.UnixMilli(int64(z.Score))})
		}
	}
	return early, fault
}

// DropEarly removes early receipts of an app. It returns how many were there: another process may have
// removed some.
func (l *Ledger) DropEarly(ctx context.Context, app string, texts []string) (int64, error) {
	if len(texts) == 0 {
		return 0, nil
	}
	all := make([]any, len(texts))
	for i, text := range texts {
		all[i] = text
	}
	n, err := l.rdb.ZRem(ctx, earlyKey(app), all...).Result()
	if err != nil {
		return 0, fmt.Errorf("remove early receipts: %w", err)
	}
	return n, nil
}
