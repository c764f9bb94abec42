package ledger

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// A receipt is what became of a message after WeChat had accepted it. WeChat pushes it with the msgid
// of its answer to the send. Settle stores which task has a msgid, in a key of its own: a receipt
// deletes it, mostly within seconds, so that what a delivered message leaves behind is the field
// `receipt` of its record and a short entry of the stream. (A hash for some hundred msgids would take a
// third of the memory of keys while they wait, and two more commands for each task: its expiry, and
// finding the hash.)

// msgIDGrace is how much longer than the record of its task a msgid is known, so that a receipt which
// comes too late is not taken for one that comes too early.
const msgIDGrace = time.Hour

// maxReceiptStatus bounds WeChat's text of a receipt in a record, in bytes.
const maxReceiptStatus = 128

// receiptsAtOnce is the maximum number of receipts of one script call.
const receiptsAtOnce = 64

// msgIDKey returns the key of the task that has a msgid: "<generation> <queue> <id>", and
// " <batch>" if it has one, the queue without its app.
func msgIDKey(app, msgid string) string { return "wxcourier:{" + app + "}:msgid:" + msgid }

// msgIDText returns the value of a msgidKey.
func msgIDText(ref Ref, e SettleRequest) string {
	text := strconv.Itoa(e.Generation) + " " + shortQueue(ref.App, e.Queue) + " " + ref.ID
	if ref.Batch != "" {
		text += " " + ref.Batch
	}
	return text
}

// ValidMsgID reports whether a text is a msgid that belongs to one message.
func ValidMsgID(msgid string) bool {
	const most = 32
	return msgid != "" && len(msgid) <= most && strings.Trim(msgid, "0123456789") == "" && strings.Trim(msgid, "0") != ""
}

// ReceiptSuccess is WeChat's text of the receipt of a message that was delivered. A record does not have
// it.
const ReceiptSuccess = "success"

// Receipt is the receipt in a record. It is zero without one.
type Receipt struct {
	Kind   string    // delivered, blocked or failed
	Status string    // WeChat's text
	At     time.Time // in whole seconds
}

// text returns a receipt as a record stores it: "<kind> <unix seconds>", and " <status>" unless that is
// ReceiptSuccess.
func (r Receipt) text() string {
	text := r.Kind + " " + strconv.FormatInt(max(r.At.Unix(), 0), 10)
	if r.Status != ReceiptSuccess {
		text += " " + shorten(r.Status, maxReceiptStatus)
	}
	return text
}

// parseReceipt is the inverse of text. It returns the zero Receipt for a text of another form.
func parseReceipt(text string) Receipt {
	kind, rest, _ := strings.Cut(text, " ")
	at, status, other := strings.Cut(rest, " ")
	seconds, err := strconv.ParseInt(at, 10, 64)
	if err != nil || kind == "" {
		return Receipt{}
	}
	if !other {
		status = ReceiptSuccess
	}
	return Receipt{Kind: kind, Status: status, At: time.Unix(seconds, 0).UTC()}
}

// MsgIDTask is the task that has a msgid. It is zero if none is known.
type MsgIDTask struct {
	Ref
	Queue      string
	Generation int
}

// FindMsgIDs returns the tasks of an app that have some msgids, in their order, with one command.
func (l *Ledger) FindMsgIDs(ctx context.Context, app string, msgids []string) ([]MsgIDTask, error) {
	found := make([]MsgIDTask, len(msgids))
	if len(msgids) == 0 {
		return found, nil
	}
	keys := make([]string, len(msgids))
	for i, msgid := range msgids {
		keys[i] = msgIDKey(app, msgid)
	}
	values, err := l.rdb.MGet(ctx, keys...).Result()
	if err != nil {
		return nil, fmt.Errorf("find the messages: %w", err)
	}
	for i, value := range values {
		text, _ := value.(string)
		parts := strings.SplitN(text, " ", 4)
		if len(parts) < 3 {
			continue
		}
		generation, err := strconv.Atoi(parts[0])
		if err != nil {
			continue
		}
		found[i] = MsgIDTask{Ref: Ref{App: app, ID: parts[2]}, Queue: fullQueue(app, parts[1]), Generation: generation}
		if len(parts) == 4 {
			found[i].Batch = parts[3]
		}
	}
	return found, nil
}

// ReceiptRequest is the receipt of a task, as FindMsgIDs returned it.
type ReceiptRequest struct {
	MsgIDTask
	MsgID   string
	Receipt Receipt
	Entry   []byte // of the stream, as JSON
}

// ReceiptState is what became of a receipt.
type ReceiptState string

// The states of receipts.
const (
	ReceiptWritten ReceiptState = "written" // it is in the record now
	ReceiptKept    ReceiptState = "kept"    // the record has one already, which stays
	ReceiptGone    ReceiptState = "gone"    // the record has expired, or is that of another message now
)

// ReceiptResult is what AddReceipts did with a receipt.
type ReceiptResult struct {
	State  ReceiptState
	Result []byte // of the task, without the receipt; with ReceiptWritten
	Err    error  // the receipt was not written
}

// addReceiptsScript adds receipts of an app to the records of their tasks, unless these have one. A
// record must still have the outcome of the message: its id may have been used again.
//
// KEYS[1] stream, KEYS[2] its cut, and for each receipt the record, the msgid and, with a batch, the batch
// ARGV[1] maximum length of the stream, 0 for none, ARGV[2] its retention in ms, and for each receipt the
// msgid, as the result contains it, the generation, the value of the field receipt, the entry of the
// stream, 1 with a batch, the batch's counter
//
// The entry is the first write: when memory is full, nothing is written, and the receipt comes again.
//
// Returns, flat, {state, result} for each; {"error", text} if nothing was written because of an error.
var addReceiptsScript = redis.NewScript(`
local stream, cut = KEYS[1], KEYS[2]
local reply, joined, counters, written, at, last = {}, {}, {}, 0, 3, nil
local function one(record, batch, a)
	local r = redis.pcall("HMGET", record, "outcome", "result", "generation", "receipt")
	if r.err then return "error", r.err end
	if r[1] ~= "accepted" or r[3] ~= ARGV[a + 1] or not string.find(r[2] or "", ARGV[a], 1, true) then return "gone", "" end
	if r[4] then return "kept", "" end
	local entry = redis.pcall("XADD", stream, "*", "result", ARGV[a + 3])
	if type(entry) == "table" and entry.err then return "error", entry.err end
	redis.call("HSET", record, "receipt", ARGV[a + 2])
	written, last = written + 1, entry
	if batch then
		local of = counters[batch] or {}
		of[ARGV[a + 5]], counters[batch] = (of[ARGV[a + 5]] or 0) + 1, of
	end
	return "written", r[2]
end
for a = 3, #ARGV, 6 do
	local state, text = one(KEYS[at], ARGV[a + 4] == "1" and KEYS[at + 2], a)
	reply[#reply + 1], reply[#reply + 2] = state, text
	if state == "written" or state == "kept" then joined[#joined + 1] = KEYS[at + 1] end
	at = at + (ARGV[a + 4] == "1" and 3 or 2)
end
if #joined > 0 then redis.call("DEL", unpack(joined)) end
for batch, of in pairs(counters) do
	for counter, n in pairs(of) do
		if redis.pcall("HINCRBY", batch, counter, n) == n and redis.call("HEXISTS", batch, "total") == 0 then
			redis.call("DEL", batch) -- it had expired
		end
	end
end
if written > 0 and redis.call("XLEN", stream) % 16 < written then
	local now = tonumber(string.match(last, "^%d+"))
	local minimum, most = now - ARGV[2], tonumber(ARGV[1])
` + trimLua + `
end
return reply
`)

// AddReceipts adds receipts of one app to the records of their tasks, with a stream entry and the
// batch's counter each. The first receipt of a message stays.
func (l *Ledger) AddReceipts(ctx context.Context, app string, receipts []ReceiptRequest) []ReceiptResult {
	results := make([]ReceiptResult, 0, len(receipts))
	for some := range slices.Chunk(receipts, receiptsAtOnce) {
		reply, err := l.addReceipts(ctx, app, some)
		for i := range some {
			switch {
			case err != nil:
				results = append(results, ReceiptResult{Err: fmt.Errorf("record the receipt: %w", err)})
			case reply[2*i] == "error":
				results = append(results, ReceiptResult{Err: fmt.Errorf("record the receipt: %w", scriptError(reply[2*i+1]))})
			default:
				results = append(results, ReceiptResult{State: ReceiptState(reply[2*i]), Result: []byte(reply[2*i+1])})
			}
		}
	}
	return results
}

func (l *Ledger) addReceipts(ctx context.Context, app string, receipts []ReceiptRequest) ([]string, error) {
	keys := []string{StreamKey(app), cutKey(app)}
	args := []any{l.policy.StreamMax, l.policy.streamRetention().Milliseconds()}
	for i := range receipts {
		r := &receipts[i]
		keys = append(keys, TaskKey(app, r.ID), msgIDKey(app, r.MsgID))
		if r.Batch != "" {
			keys = append(keys, BatchKey(app, r.Batch))
		}
		args = append(args, `,"msgid":"`+r.MsgID+`"`, r.Generation, r.Receipt.text(), r.Entry, flag(r.Batch != ""), receiptCounter(r.Receipt.Kind))
	}
	reply, err := addReceiptsScript.Run(ctx, l.rdb, keys, args...).StringSlice()
	if err == nil && len(reply) != 2*len(receipts) {
		err = errors.New("unexpected length of the reply")
	}
	return reply, err
}

// receiptCounter returns the field of a batch that counts receipts of a kind.
func receiptCounter(kind string) string { return "receipt:" + kind }
