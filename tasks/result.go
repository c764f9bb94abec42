package tasks

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/wxcourier/wxcourier/internal/strictjson"
)

// Outcome is how a task ended. Every task ends with exactly one outcome.
type Outcome string

// The outcomes.
const (
	// OutcomeAccepted: WeChat accepted the request (errcode 0). A content check that finds a
	// risk is accepted too, with Result.Suggest "risky".
	OutcomeAccepted Outcome = "accepted"
	// OutcomeRefused: the choice or the state of the person forbids it (43101, 43004,
	// 45015 …).
	OutcomeRefused Outcome = "refused"
	// OutcomeRejected: the request is invalid, and repeating it cannot succeed (47003,
	// 40003 …).
	OutcomeRejected Outcome = "rejected"
	// OutcomeExpired: not_after passed before it could be sent.
	OutcomeExpired Outcome = "expired"
	// OutcomeFailed: all attempts ended with transient errors. Result has the last one.
	OutcomeFailed Outcome = "failed"
	// OutcomeUnknown: the request was written to WeChat but no answer came, and repeating
	// it could send the message twice. An operator may redrive it. It is the only outcome
	// that a later one may replace (Result.Supersedes).
	OutcomeUnknown Outcome = "unknown"
	// OutcomeCanceled: it was canceled before it was sent.
	OutcomeCanceled Outcome = "canceled"
)

// Outcomes returns all outcomes, in the order of the columns of tables.
func Outcomes() []Outcome {
	return []Outcome{
		OutcomeAccepted, OutcomeRefused, OutcomeRejected, OutcomeExpired,
		OutcomeFailed, OutcomeUnknown, OutcomeCanceled,
	}
}

// State is the state of a task until it has an outcome.
type State string

// The states, in the order in which a task passes through them.
const (
	// StateScheduled: waits for its process_at. asynq's forwarder moves it to StateWaiting
	// within seconds after that time.
	StateScheduled State = "scheduled"
	// StateWaiting: due, waits for a permit of its lane. The lane that dequeues it moves it
	// to StateSending.
	StateWaiting State = "waiting"
	// StateSending: a replica processes it. The replica moves it to StateDone, or to
	// StateRetrying after a transient error.
	StateSending State = "sending"
	// StateRetrying: waits for the next attempt after a transient error. asynq's forwarder
	// moves it to StateWaiting when it is due.
	StateRetrying State = "retrying"
	// StateDone: has an outcome. Only a redrive moves it out of this state.
	StateDone State = "done"
)

// States returns all states, in the order in which a task passes through them.
func States() []State {
	return []State{StateScheduled, StateWaiting, StateSending, StateRetrying, StateDone}
}

// DeliveryReceipt is what became of a message that WeChat had accepted.
type DeliveryReceipt string

// The receipts.
const (
	ReceiptDelivered DeliveryReceipt = "delivered"
	ReceiptBlocked   DeliveryReceipt = "blocked" // by the person
	ReceiptFailed    DeliveryReceipt = "failed"  // WeChat could not deliver it; ReceiptStatus says why
)

// DeliveryReceipts returns all receipts, in the order of the columns of tables.
func DeliveryReceipts() []DeliveryReceipt {
	return []DeliveryReceipt{ReceiptDelivered, ReceiptBlocked, ReceiptFailed}
}

// Result is the record of a task: its state until it is done, then its outcome and WeChat's
// answer. Encode, the columns of `wxcourier results --csv` and the table of fields in
// docs/tasks.md follow this struct and its tags; tests compare them.
type Result struct {
	ID    string `json:"id"`
	App   string `json:"app"`
	Type  string `json:"type"`
	Batch string `json:"batch,omitempty"`
	// State is StateDone exactly when Outcome is set.
	State   State   `json:"state,omitempty"`
	Outcome Outcome `json:"outcome,omitempty"`

	// ErrCode and ErrMsg are WeChat's answer to the last attempt. RID is its request id, for
	// which rid/get returns details for seven days. They are zero without an answer.
	ErrCode int    `json:"errcode"`
	ErrMsg  string `json:"errmsg"`
	RID     string `json:"rid"`
	// Attempts is the number of calls to WeChat for this task.
	Attempts int `json:"attempts"`

	// MsgID is the message's id in digits; it may exceed 2^53. The receipt events
	// (subscribe_msg_sent_event, TEMPLATESENDJOBFINISH) have the same id.
	MsgID string `json:"msgid,omitempty"`
	// OpenLink is the weixin:// link of scheme:generate.
	OpenLink string `json:"openlink,omitempty"`
	// URLLink is the https:// link of scheme:urllink.
	URLLink string `json:"url_link,omitempty"`
	// Link is a short link.
	Link string `json:"link,omitempty"`
	// Image is the media type of the image of a mini program code, such as "image/png";
	// see [Client.Image] for its bytes.
	Image string `json:"image,omitempty"`
	// Suggest is a content check's advice: "pass", "review" or "risky".
	Suggest string `json:"suggest,omitempty"`
	// Label is a content check's category, in digits (100 normal, 20001 politics …).
	Label string `json:"label,omitempty"`
	// TraceID is a content check's id at WeChat.
	TraceID string `json:"trace_id,omitempty"`

	// Reason explains the outcome if errmsg does not. Before the end it is the reason of the
	// hold that the task waits for, or "canceled" for a task that will not be sent any more.
	Reason string `json:"reason,omitempty"`
	// Generation is the number of redrives of the task.
	Generation int `json:"generation,omitempty"`
	// Supersedes is the outcome that this one replaced (OutcomeUnknown), if any.
	Supersedes Outcome `json:"supersedes,omitempty"`

	// Receipt is what became of the message after WeChat had accepted it, as WeChat pushed it to the
	// gateway's callback; "" before that push, and without one.
	Receipt DeliveryReceipt `json:"receipt,omitempty"`
	// ReceiptStatus is the push's own text, such as "success" or "failed:user block".
	ReceiptStatus string `json:"receipt_status,omitempty"`
	// ReceiptAt is the time of the push.
	ReceiptAt time.Time `json:"receipt_at,omitzero"`
	// Fixed names what was changed in the body before it was sent, because the template demands it and
	// the app's configuration allows it: "data.thing1.value: cut from 27 to 20 characters".
	Fixed []string `json:"fixed,omitempty"`

	EnqueuedAt time.Time `json:"enqueued_at,omitzero"`
	FinishedAt time.Time `json:"finished_at,omitzero"`

	// Last is the answer to the last attempt that did not end the task; only before the end.
	Last *LastAnswer `json:"last,omitempty"`
	// WaitsFor is what keeps the task longest, as far as Redis shows it; only before the end.
	WaitsFor WaitReason `json:"waits_for,omitempty"`
	// NextAt is when that ends; zero if it is not known, or only an operator ends it. The
	// task may be sent later than that, since other tasks wait too.
	NextAt time.Time `json:"next_at,omitzero"`
}

// Encode returns the record as JSON. It is that of json.Marshal, but with the necessary
// escapes only. Encode uses no reflection, which would take as long as several other steps
// of a delivery together. A time whose year does not have four digits is omitted, since RFC
// 3339 cannot represent it and the record could not be decoded.
func (r Result) Encode() []byte {
	dst := make([]byte, 0, 512)
	text := func(name, s string) {
		dst = strictjson.AppendQuote(append(dst, name...), s)
	}
	some := func(name, s string) {
		if s != "" {
			text(name, s)
		}
	}
	number := func(name string, n int) {
		dst = strconv.AppendInt(append(dst, name...), int64(n), 10)
	}
	instant := func(name string, t time.Time) {
		t = rfc3339Zone(t)
		if year := t.Year(); !t.IsZero() && year >= 0 && year <= 9999 {
			dst = append(append(dst, name...), '"')
			dst = append(t.AppendFormat(dst, time.RFC3339Nano), '"')
		}
	}
	text(`{"id":`, r.ID)
	text(`,"app":`, r.App)
	text(`,"type":`, r.Type)
	some(`,"batch":`, r.Batch)
	some(`,"state":`, string(r.State))
	some(`,"outcome":`, string(r.Outcome))
	number(`,"errcode":`, r.ErrCode)
	text(`,"errmsg":`, r.ErrMsg)
	text(`,"rid":`, r.RID)
	number(`,"attempts":`, r.Attempts)
	some(`,"msgid":`, r.MsgID)
	some(`,"openlink":`, r.OpenLink)
	some(`,"url_link":`, r.URLLink)
	some(`,"link":`, r.Link)
	some(`,"image":`, r.Image)
	some(`,"suggest":`, r.Suggest)
	some(`,"label":`, r.Label)
	some(`,"trace_id":`, r.TraceID)
	some(`,"reason":`, r.Reason)
	if r.Generation != 0 {
		number(`,"generation":`, r.Generation)
	}
	some(`,"supersedes":`, string(r.Supersedes))
	some(`,"receipt":`, string(r.Receipt))
	some(`,"receipt_status":`, r.ReceiptStatus)
	instant(`,"receipt_at":`, r.ReceiptAt)
	for i, fixed := range r.Fixed {
		text([...]string{`,"fixed":[`, `,`}[min(i, 1)], fixed)
	}
	if len(r.Fixed) > 0 {
		dst = append(dst, ']')
	}
	instant(`,"enqueued_at":`, r.EnqueuedAt)
	instant(`,"finished_at":`, r.FinishedAt)
	if l := r.Last; l != nil {
		number(`,"last":{"errcode":`, l.ErrCode)
		text(`,"errmsg":`, l.ErrMsg)
		text(`,"rid":`, l.RID)
		some(`,"class":`, l.Class)
		instant(`,"at":`, l.At)
		dst = append(dst, '}')
	}
	some(`,"waits_for":`, string(r.WaitsFor))
	instant(`,"next_at":`, r.NextAt)
	return append(dst, '}')
}

// decodeResult reads a record that Encode wrote.
func decodeResult(b []byte) (Result, error) {
	var r Result
	if err := json.Unmarshal(b, &r); err != nil {
		return Result{}, fmt.Errorf("decode a result: %w", err)
	}
	return r, nil
}
