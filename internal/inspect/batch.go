package inspect

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/hold"
	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/tasks"
)

// Batch is the progress of one batch of an app.
type Batch struct {
	App      string                  `json:"app"`
	Batch    string                  `json:"batch"`
	Total    int64                   `json:"total"`
	Done     int64                   `json:"done"`
	Open     int64                   `json:"open"`
	Outcomes map[tasks.Outcome]int64 `json:"outcomes"` // without those that no task has
	// Receipts count the messages whose receipts have come; without those that no task has. Accepted
	// messages without a receipt are not counted there, see WithoutReceipt.
	Receipts map[tasks.DeliveryReceipt]int64 `json:"receipts,omitempty"`
	// Rate is the number of tasks of the batch that ended in a second, in the last minute or since
	// the first of them did; 0: unknown, since the app's stream of results has none of them.
	Rate float64 `json:"rate"`
	// SecondsLeft is how long the open tasks take at this rate; -1: unknown.
	SecondsLeft float64 `json:"seconds_left"`
	// Holds are the app's holds in force: while one stops the batch, its tasks take longer.
	Holds []hold.Hold `json:"holds,omitempty"`
}

const (
	rateSpan    = time.Minute
	rateEntries = 5000 // the entries that a rate is computed from, some 2 MB
	ratePage    = 1000
)

// Batch reads the progress of a batch, in at most nine round trips. The error is tasks.ErrNotFound
// for an unknown batch.
func (r *Reader) Batch(ctx context.Context, app, batch string) (Batch, error) {
	counts, err := r.ledger.Batch(ctx, app, batch)
	if errors.Is(err, ledger.ErrNotFound) {
		return Batch{}, tasks.ErrNotFound
	}
	if err != nil {
		return Batch{}, err
	}
	b := newBatch(app, batch, counts)
	if b.Open == 0 {
		return b, nil
	}
	if b.Rate, err = r.batchRate(ctx, app, batch); err != nil {
		return Batch{}, err
	}
	if b.Rate > 0 {
		b.SecondsLeft = float64(b.Open) / b.Rate
	}
	b.Holds, err = r.holds.List(ctx, app)
	return b, err
}

// newBatch returns a batch with these counters, without its rate and holds.
func newBatch(app, batch string, counts map[string]int64) Batch {
	b := Batch{
		App: app, Batch: batch, Total: counts["total"], Done: counts["done"],
		Open: max(0, counts["total"]-counts["done"]), Outcomes: make(map[tasks.Outcome]int64), SecondsLeft: -1,
	}
	for _, outcome := range tasks.Outcomes() {
		if n := counts[string(outcome)]; n > 0 {
			b.Outcomes[outcome] = n
		}
	}
	for _, receipt := range tasks.DeliveryReceipts() {
		if n := counts[ledger.ReceiptCount(string(receipt))]; n > 0 {
			if b.Receipts == nil {
				b.Receipts = make(map[tasks.DeliveryReceipt]int64)
			}
			b.Receipts[receipt] = n
		}
	}
	if b.Open == 0 {
		b.SecondsLeft = 0
	}
	return b
}

// WithoutReceipt returns the number of accepted tasks whose receipts have not come; 0 for a batch
// without any receipt, since its app may have no callback.
func (b Batch) WithoutReceipt() int64 {
	if len(b.Receipts) == 0 {
		return 0
	}
	left := b.Outcomes[tasks.OutcomeAccepted]
	for _, n := range b.Receipts {
		left -= n
	}
	return max(0, left)
}

// batchRate returns how many tasks of a batch ended in a second, by the newest entries of the app's
// stream of results.
func (r *Reader) batchRate(ctx context.Context, app, batch string) (float64, error) {
	now, err := r.rdb.Time(ctx).Result()
	if err != nil {
		return 0, fmt.Errorf("read the time: %w", err)
	}
	ended, read, first := 0, 0, now
	oldest, newest := strconv.FormatInt(now.Add(-rateSpan).UnixMilli(), 10), "+"
	for read < rateEntries {
		entries, err := r.rdb.XRevRangeN(ctx, ledger.StreamKey(app), newest, oldest, ratePage).Result()
		if err != nil {
			return 0, fmt.Errorf("read the results: %w", err)
		}
		for _, e := range entries {
			if batchOfOutcome(e) == batch {
				ended, first = ended+1, timeOfEntry(e)
			}
		}
		if read += len(entries); len(entries) < ratePage {
			break
		}
		newest = "(" + entries[len(entries)-1].ID
	}
	if ended == 0 {
		return 0, nil
	}
	return float64(ended) / max(1, now.Sub(first).Seconds()), nil
}

// batchOfOutcome returns the batch of an entry, "" for a receipt.
func batchOfOutcome(e redis.XMessage) string {
	var result struct {
		Batch      string                `json:"batch"`
		Receipt    tasks.DeliveryReceipt `json:"receipt"`
		FinishedAt time.Time             `json:"finished_at"`
	}
	text, _ := e.Values["result"].(string)
	if json.Unmarshal([]byte(text), &result) != nil || (tasks.Result{Receipt: result.Receipt, FinishedAt: result.FinishedAt}).IsReceipt() {
		return ""
	}
	return result.Batch
}

// timeOfEntry returns the time in the id of an entry.
func timeOfEntry(e redis.XMessage) time.Time {
	text, _, _ := strings.Cut(e.ID, "-")
	ms, _ := strconv.ParseInt(text, 10, 64)
	return time.UnixMilli(ms)
}

// Batches reads the progress of all batches of one name: of the given apps, and of all apps with
// tasks for which wanted returns true. Apps without such a batch are left out.
func (r *Reader) Batches(ctx context.Context, configured []string, wanted func(app string) bool, batch string) ([]Batch, error) {
	apps, err := tasks.NewInspector(r.rdb).Apps(ctx)
	if err != nil {
		return nil, err
	}
	apps = slices.DeleteFunc(append(apps, configured...), func(app string) bool { return !wanted(app) })
	slices.Sort(apps)
	batches := []Batch{}
	for _, app := range slices.Compact(apps) {
		b, err := r.Batch(ctx, app, batch)
		if errors.Is(err, tasks.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		batches = append(batches, b)
	}
	return batches, nil
}
