package ledger

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"
)

// BackRead selects entries of an app's stream, from the newest to the oldest.
type BackRead struct {
	App string
	// Max is the id of the newest entry that is wanted; with a leading "(" it is left out. "+": the
	// newest one.
	Max string
	Min string // id of the oldest entry that is wanted; "-": the oldest one
	// Count is the maximum number of entries.
	Count int64
}

// ReadStreamsBack reads entries of some streams, the newest first, in one round trip. The results
// have the order of the reads.
func (l *Ledger) ReadStreamsBack(ctx context.Context, reads []BackRead) ([][]redis.XMessage, error) {
	replies := make([]*redis.XMessageSliceCmd, len(reads))
	_, err := l.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, r := range reads {
			replies[i] = p.XRevRangeN(ctx, StreamKey(r.App), r.Max, r.Min, r.Count)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the results: %w", err)
	}
	entries := make([][]redis.XMessage, len(reads))
	for i, reply := range replies {
		entries[i] = reply.Val()
	}
	return entries, nil
}
