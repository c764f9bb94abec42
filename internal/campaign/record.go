package campaign

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/ledger"
)

// recordKept is how long the record of a campaign is kept after its last change, or after its last
// message is due. For that time a repeated run does not send to anybody twice.
const recordKept = 90 * 24 * time.Hour

func kept(p Plan, rateUntil time.Time) time.Duration {
	return recordKept + max(0, time.Until(p.At), time.Until(rateUntil))
}

// recordKey is the hash of a campaign: `type`, `table` and `template` (digests), `rows`, `started`,
// `rate_until` (ms since 1970: when the last message of a run with a rate is due) and `unsure_at`.
func recordKey(app, batch string) string { return ledger.BatchKey(app, batch) + ":campaign" }

// sentKey is a string with the row keys of all enqueued rows, 8 bytes each.
func sentKey(app, batch string) string { return recordKey(app, batch) + ":sent" }

// unsureKey is a string with the row keys that are being enqueued. If the process is killed, it is
// not known which of them were.
func unsureKey(app, batch string) string { return recordKey(app, batch) + ":unsure" }

const rowKeyBytes = 8

// record is what Redis holds of a campaign.
type record struct {
	known           bool
	typ             string
	table, template string
	started         time.Time
	rateUntil       time.Time
	sent            map[rowKey]bool
	unsure          map[rowKey]bool
	unsureAt        time.Time

	batch    bool // the batch has counters
	canceled int64
}

// readRecord reads the record of a campaign and of its batch.
func (s *Sender) readRecord(ctx context.Context, app, batch string) (record, error) {
	var fields *redis.MapStringStringCmd
	var sent, unsure *redis.StringCmd
	var counters *redis.SliceCmd
	_, err := s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		fields, sent, unsure = p.HGetAll(ctx, recordKey(app, batch)), p.Get(ctx, sentKey(app, batch)), p.Get(ctx, unsureKey(app, batch))
		counters = p.HMGet(ctx, ledger.BatchKey(app, batch), "total", "withdrawals")
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) {
		return record{}, fmt.Errorf("read the campaign: %w", err)
	}
	values := fields.Val()
	r := record{
		known: len(values) > 0, typ: values["type"], table: values["table"], template: values["template"],
		started: fromMillis(values["started"]), rateUntil: fromMillis(values["rate_until"]), unsureAt: fromMillis(values["unsure_at"]),
		sent: rowKeys(sent.Val()), unsure: rowKeys(unsure.Val()),
	}
	if c := counters.Val(); len(c) == 2 {
		r.batch = c[0] != nil
		text, _ := c[1].(string)
		r.canceled, _ = strconv.ParseInt(text, 10, 64)
	}
	return r, nil
}

func fromMillis(text string) time.Time {
	ms, err := strconv.ParseInt(text, 10, 64)
	if err != nil || ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}

// rowKeys decodes the value of sentKey or unsureKey.
func rowKeys(text string) map[rowKey]bool {
	keys := make(map[rowKey]bool, len(text)/rowKeyBytes)
	for ; len(text) >= rowKeyBytes; text = text[rowKeyBytes:] {
		keys[rowKey(binary.BigEndian.Uint64([]byte(text[:rowKeyBytes])))] = true
	}
	return keys
}

func encodeKeys(messages []message) []byte {
	text := make([]byte, 0, rowKeyBytes*len(messages))
	for _, m := range messages {
		text = binary.BigEndian.AppendUint64(text, uint64(m.key))
	}
	return text
}

// begin writes the record of a campaign before its first row is enqueued.
func (s *Sender) begin(ctx context.Context, c *Checked) error {
	p := c.Plan
	_, err := s.rdb.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
		pipe.HSet(ctx, recordKey(p.App, p.Batch), "type", p.Type, "table", c.Digest, "template", p.Template.Digest, "rows", c.Rows)
		pipe.HSetNX(ctx, recordKey(p.App, p.Batch), "started", time.Now().UnixMilli())
		pipe.PExpire(ctx, recordKey(p.App, p.Batch), kept(p, time.Time{}))
		pipe.PExpire(ctx, sentKey(p.App, p.Batch), kept(p, time.Time{}))
		return nil
	})
	if err != nil {
		return fmt.Errorf("write the campaign: %w", err)
	}
	return nil
}

// beginChunk notes which rows will be enqueued, and returns how often the batch was canceled.
func (s *Sender) beginChunk(ctx context.Context, p Plan, chunk []message) (canceled int64, err error) {
	var withdrawals *redis.StringCmd
	_, err = s.rdb.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
		pipe.Set(ctx, unsureKey(p.App, p.Batch), encodeKeys(chunk), kept(p, time.Time{}))
		pipe.HSet(ctx, recordKey(p.App, p.Batch), "unsure_at", time.Now().UnixMilli())
		withdrawals = pipe.HGet(ctx, ledger.BatchKey(p.App, p.Batch), "withdrawals")
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) {
		return 0, fmt.Errorf("write the campaign: %w", err)
	}
	canceled, _ = withdrawals.Int64() // redis.Nil: never
	return canceled, nil
}

// endChunk notes that rows are enqueued. rateUntil is when the last one is due, or zero.
func (s *Sender) endChunk(ctx context.Context, p Plan, enqueued []message, rateUntil time.Time) error {
	_, err := s.rdb.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
		if len(enqueued) > 0 {
			pipe.Append(ctx, sentKey(p.App, p.Batch), string(encodeKeys(enqueued)))
			pipe.PExpire(ctx, sentKey(p.App, p.Batch), kept(p, rateUntil))
		}
		pipe.Del(ctx, unsureKey(p.App, p.Batch))
		if !rateUntil.IsZero() {
			pipe.HSet(ctx, recordKey(p.App, p.Batch), "rate_until", rateUntil.UnixMilli())
		}
		pipe.PExpire(ctx, recordKey(p.App, p.Batch), kept(p, rateUntil))
		return nil
	})
	if err != nil {
		return fmt.Errorf("write the campaign: %w", err)
	}
	return nil
}
