package ledger

import (
	"context"
	"fmt"
	"strconv"

	"github.com/redis/go-redis/v9"
)

// ReceiptCount returns the name of the counter of a receipt among those of a batch, see Ledger.Batch.
func ReceiptCount(receipt string) string { return receiptCounter(receipt) }

// Receipts reads the receipts of some tasks, in a round trip for each 500 of them: zero for a task
// without one. A task that is in another generation than the given one has none.
func (l *Ledger) Receipts(ctx context.Context, refs []Ref, generations []int) ([]Receipt, error) {
	all := make([]Receipt, len(refs))
	for first := 0; first < len(refs); first += receiptPage {
		page := refs[first:min(first+receiptPage, len(refs))]
		replies := make([]*redis.SliceCmd, len(page))
		_, err := l.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
			for i, ref := range page {
				replies[i] = p.HMGet(ctx, TaskKey(ref.App, ref.ID), "receipt", "generation")
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("read the receipts: %w", err)
		}
		for i, reply := range replies {
			receipt, _ := reply.Val()[0].(string)
			text, _ := reply.Val()[1].(string)
			if generation, _ := strconv.Atoi(text); generation == generations[first+i] {
				all[first+i] = parseReceipt(receipt)
			}
		}
	}
	return all, nil
}

// receiptPage is the number of records that one round trip reads.
const receiptPage = 500
