package pushes

import (
	"context"
	"encoding/json"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/internal/strictjson"
	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/wechat/callback"
)

// ReceiptsDeps are the dependencies of Receipts. All but the functions of what happened and Now are
// required.
type ReceiptsDeps struct {
	Redis  redis.UniversalClient
	Policy ledger.Policy   // of the records of tasks, as the workers have it
	Apps   func() []string // whose receipts are awaited, now
	Log    *slog.Logger

	// OnReceipt is called once for each receipt that was joined to its message, with the result that has
	// it, and the time at which WeChat accepted the message.
	OnReceipt func(r tasks.Result, sent time.Time)
	// OnOutcome is called once for each message that its receipt has resolved: its outcome was unknown,
	// and is accepted. OnReceipt follows.
	OnOutcome func(r tasks.Result)
	// OnDropped is called for each receipt that was not joined.
	OnDropped func(app string, why Dropped)
	// Now is the clock of the early receipts; nil is time.Now.
	Now func() time.Time
}

// Dropped is why a receipt was not joined to a message.
type Dropped string

// The reasons.
const (
	// DroppedRepeated: the message has a receipt, which stays.
	DroppedRepeated Dropped = "repeated"
	// DroppedExpired: the record of the message is past its retention.
	DroppedExpired Dropped = "expired"
	// DroppedUnmatched: no message of the ledger has the msgid. Another program may have sent it.
	DroppedUnmatched Dropped = "unmatched"
)

// DropReasons returns all reasons why a receipt is not joined to a message.
func DropReasons() []Dropped { return []Dropped{DroppedRepeated, DroppedExpired, DroppedUnmatched} }

// Receipts joins receipts to the messages that they are for. It is a [Handler]; Run looks again for
// messages that were not known when their receipt came. Several processes may run it for the same apps.
type Receipts struct {
	ReceiptsDeps
	ledger *ledger.Ledger
	log    *slog.Logger

	mu   sync.Mutex
	next map[string]time.Time // when an app's early receipts are looked at again; guarded by mu
	wake chan struct{}
}

// NewReceipts returns a Receipts. It does no I/O.
func NewReceipts(deps ReceiptsDeps) *Receipts {
	if deps.Now == nil {
		deps.Now = time.Now
	}
	if deps.OnReceipt == nil {
		deps.OnReceipt = func(tasks.Result, time.Time) {}
	}
	if deps.OnOutcome == nil {
		deps.OnOutcome = func(tasks.Result) {}
	}
	if deps.OnDropped == nil {
		deps.OnDropped = func(string, Dropped) {}
	}
	return &Receipts{
		ReceiptsDeps: deps, ledger: ledger.New(deps.Redis, deps.Policy), log: deps.Log,
		next: make(map[string]time.Time), wake: make(chan struct{}, 1),
	}
}

// receipt is a receipt as it is kept while its message is not known. It has no openid.
type receipt struct {
	MsgID    string            `json:"msgid"`
	Event    string            `json:"event"`
	Template string            `json:"template,omitempty"`
	Person   string            `json:"person,omitempty"` // see ledger.PersonOf
	Delivery callback.Delivery `json:"delivery"`
	Status   string            `json:"status,omitempty"`
	Created  int64             `json:"created"` // by WeChat's clock, seconds since 1970
	Came     int64             `json:"came"`    // by ours

	kept string // as it is kept; "" of one that has just come
}

// receiptsOf returns the receipts of pushes, the first one of each message. Those without a msgid are
// left out.
func receiptsOf(pushed []callback.Push, now time.Time) []receipt {
	var all []receipt
	seen := make(map[string]bool)
	for _, p := range pushed {
		for _, r := range p.Receipts {
			if !ledger.ValidMsgID(r.MsgID) || seen[r.MsgID] {
				continue
			}
			seen[r.MsgID] = true
			one := receipt{
				MsgID: r.MsgID, Event: p.Event, Template: r.TemplateID, Delivery: r.Delivery, Status: r.Status,
				Created: p.Created.Unix(), Came: now.Unix(),
			}
			if p.From != "" {
				one.Person = ledger.PersonOf(p.From)
			}
			if p.Created.IsZero() {
				one.Created = one.Came
			}
			all = append(all, one)
		}
	}
	return all
}

// Handle implements [Handler].
func (s *Receipts) Handle(ctx context.Context, app string, pushed []callback.Push) error {
	for some := range slices.Chunk(receiptsOf(pushed, s.Now()), receiptsAtOnce) {
		open, err := s.join(ctx, app, some)
		if err != nil {
			return err
		}
		if err := s.keep(ctx, app, open); err != nil {
			return err
		}
	}
	return nil
}

// receiptsAtOnce is the maximum number of receipts that are joined in one round trip.
const receiptsAtOnce = 256

// join joins receipts of an app to the messages that are known, in two round trips. It returns those
// whose message is not known, and those that Redis could not join.
func (s *Receipts) join(ctx context.Context, app string, receipts []receipt) (open []receipt, err error) {
	msgids := make([]string, len(receipts))
	for i := range receipts {
		msgids[i] = receipts[i].MsgID
	}
	found, err := s.ledger.FindMsgIDs(ctx, app, msgids)
	if err != nil {
		return nil, err
	}
	var known []receipt
	var requests []ledger.ReceiptRequest
	for i, r := range receipts {
		_, typ, _, ok := tasks.ParseQueue(found[i].Queue)
		if !ok {
			open = append(open, r)
			continue
		}
		known = append(known, r)
		requests = append(requests, r.request(found[i], typ))
	}
	for i, result := range s.ledger.AddReceipts(ctx, app, requests) {
		switch {
		case result.Err != nil && !isReply(result.Err):
			return nil, result.Err
		case result.Err != nil:
			s.log.Warn("a receipt could not be joined yet", slog.String("app", app), slog.String("task", requests[i].ID), slog.Any("err", result.Err))
			open = append(open, known[i])
		case result.State == ledger.ReceiptWritten:
			s.joined(requests[i], result.Result)
		case result.State == ledger.ReceiptKept:
			s.OnDropped(app, DroppedRepeated)
		default:
			s.OnDropped(app, DroppedExpired)
		}
	}
	return open, nil
}

// request returns what the ledger needs to join a receipt to a task.
func (r receipt) request(task ledger.MsgIDTask, typ string) ledger.ReceiptRequest {
	at := time.Unix(r.Created, 0).UTC()
	return ledger.ReceiptRequest{
		MsgIDTask: task, MsgID: r.MsgID,
		Receipt: ledger.Receipt{Kind: string(r.Delivery), Status: r.Status, At: at},
		Entry:   r.entry(task, typ, at),
	}
}

// entry returns the entry of a receipt in the stream of results: it has what names the task, and the
// receipt. The outcome has an entry of its own.
func (r receipt) entry(task ledger.MsgIDTask, typ string, at time.Time) []byte {
	result := tasks.Result{
		ID: task.ID, App: task.App, Type: typ, Batch: task.Batch, State: tasks.StateDone, Outcome: tasks.OutcomeAccepted,
		MsgID: r.MsgID, Generation: task.Generation,
		Receipt: tasks.DeliveryReceipt(r.Delivery), ReceiptStatus: r.Status, ReceiptAt: at,
	}
	return encodeEntry(result)
}

// encodeEntry encodes the fields of the entry of a receipt, and no others: Redis keeps one for each
// message. The status of most is left out.
func encodeEntry(r tasks.Result) []byte {
	dst := make([]byte, 0, 320)
	text := func(name, value string) {
		if value != "" {
			dst = strictjson.AppendQuote(append(dst, name...), value)
		}
	}
	text(`{"id":`, r.ID)
	text(`,"app":`, r.App)
	text(`,"type":`, r.Type)
	text(`,"batch":`, r.Batch)
	text(`,"state":`, string(r.State))
	text(`,"outcome":`, string(r.Outcome))
	text(`,"msgid":`, r.MsgID)
	if r.Generation != 0 {
		dst = strconv.AppendInt(append(dst, `,"generation":`...), int64(r.Generation), 10)
	}
	text(`,"receipt":`, string(r.Receipt))
	if r.ReceiptStatus != ledger.ReceiptSuccess {
		text(`,"receipt_status":`, r.ReceiptStatus)
	}
	text(`,"receipt_at":`, r.ReceiptAt.UTC().Format(time.RFC3339))
	return append(dst, '}')
}

// joined reports a receipt that was joined to the message with a result to OnReceipt.
func (s *Receipts) joined(request ledger.ReceiptRequest, result []byte) {
	var r tasks.Result
	if err := json.Unmarshal(result, &r); err != nil {
		s.log.Warn("the result of a message cannot be read", slog.String("app", request.App), slog.String("task", request.ID), slog.Any("err", err))
		return
	}
	r.Receipt, r.ReceiptStatus, r.ReceiptAt = tasks.DeliveryReceipt(request.Receipt.Kind), request.Receipt.Status, request.Receipt.At
	s.OnReceipt(r, r.FinishedAt)
}

// isReply reports whether Redis answered with an error that it will answer again, for this key.
func isReply(err error) bool { return redis.HasErrorPrefix(err, "WRONGTYPE") }
