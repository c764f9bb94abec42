package tasks

import (
	"strconv"
	"time"
)

// Outcome is how a task ended. Every task ends in exactly one.
type Outcome string

// The outcomes.
const (
	// OutcomeAccepted: WeChat took it (errcode 0). A content check that says risky
	// is accepted too, with Result.Suggest "risky".
	OutcomeAccepted Outcome = "accepted"
	// OutcomeRefused: the person's choice or state forbids it (43101, 43004, 45015 …).
	OutcomeRefused Outcome = "refused"
	// OutcomeRejected: the request is wrong and always will be (47003, 40003 …).
	OutcomeRejected Outcome = "rejected"
	// OutcomeExpired: not_after passed before it could be sent.
	OutcomeExpired Outcome = "expired"
	// OutcomeFailed: the attempts ran out on transient errors; the last one is named.
	OutcomeFailed Outcome = "failed"
	// OutcomeUnknown: it was written to WeChat, no answer came, and repeating it
	// could double it. An operator may redrive it. It is the only outcome that a
	// later one may replace (Result.Supersedes).
	OutcomeUnknown Outcome = "unknown"
	// OutcomeCanceled: it was taken back before it was sent.
	OutcomeCanceled Outcome = "canceled"
)

// Outcomes lists every outcome, in the order in which tables show them.
func Outcomes() []Outcome {
	return []Outcome{
		OutcomeAccepted, OutcomeRefused, OutcomeRejected, OutcomeExpired,
		OutcomeFailed, OutcomeUnknown, OutcomeCanceled,
	}
}

// State is where a task stands on its way to an outcome.
type State string

// The states, in the order in which a task passes through them.
const (
	// StateScheduled: it waits for its process_at; asynq's forwarder moves it on to
	// StateWaiting within seconds of that time.
	StateScheduled State = "scheduled"
	// StateWaiting: it is due and waits for a permit of its lane, which moves it on
	// to StateSending.
	StateWaiting State = "waiting"
	// StateSending: a replica has it in hand. The replica leaves it as StateDone, or
	// as StateRetrying after a transient error.
	StateSending State = "sending"
	// StateRetrying: a transient error is behind it and a pause before it; the end of
	// the pause moves it back to StateWaiting.
	StateRetrying State = "retrying"
	// StateDone: it has an outcome. Only a redrive leaves this state.
	StateDone State = "done"
)

// States lists every state, in the order in which a task passes through them.
func States() []State {
	return []State{StateScheduled, StateWaiting, StateSending, StateRetrying, StateDone}
}

// Result is what is recorded about a task: its state while it is on its way, its
// outcome and WeChat's answer once it is done.
type Result struct {
	ID    string `json:"id"`
	App   string `json:"app"`
	Type  string `json:"type"`
	Batch string `json:"batch,omitempty"`
	// State is StateDone exactly when Outcome is set.
	State   State   `json:"state,omitempty"`
	Outcome Outcome `json:"outcome,omitempty"`

	// ErrCode and ErrMsg are WeChat's answer to the last attempt, RID its request id
	// (rid/get explains it for seven days). All zero before any answer came.
	ErrCode int    `json:"errcode"`
	ErrMsg  string `json:"errmsg"`
	RID     string `json:"rid"`
	// Attempts counts the calls that were made to WeChat for this task.
	Attempts int `json:"attempts"`

	// MsgID is the message's id, in digits: it exceeds 2^53. The receipt events
	// (subscribe_msg_sent_event, TEMPLATESENDJOBFINISH) carry the same id.
	MsgID string `json:"msgid,omitempty"`
	// OpenLink is the weixin:// link of scheme:generate.
	OpenLink string `json:"openlink,omitempty"`
	// URLLink is the https:// link of scheme:urllink.
	URLLink string `json:"url_link,omitempty"`
	// Link is a short link.
	Link string `json:"link,omitempty"`
	// Image says under which name the bytes of a mini program code are kept beside
	// the record.
	Image string `json:"image,omitempty"`
	// Suggest is a content check's advice: "pass", "review" or "risky".
	Suggest string `json:"suggest,omitempty"`
	// Label is a content check's category, in digits (100 normal, 20001 politics …).
	Label string `json:"label,omitempty"`
	// TraceID is a content check's id at WeChat.
	TraceID string `json:"trace_id,omitempty"`

	// Reason says in words why it ended so, where errmsg does not.
	Reason string `json:"reason,omitempty"`
	// Generation counts the redrives of the task: 0 for its first run.
	Generation int `json:"generation,omitempty"`
	// Supersedes is the outcome that this one replaces (OutcomeUnknown), if any.
	Supersedes Outcome `json:"supersedes,omitempty"`

	EnqueuedAt time.Time `json:"enqueued_at,omitzero"`
	FinishedAt time.Time `json:"finished_at,omitzero"`
}

// Encode is the record as JSON, as json.Marshal writes it, but with nothing escaped that
// need not be. There is one for every task, and reflection would take as long as several
// other steps of its delivery together. A time that RFC 3339 cannot say, with a year of four
// digits, is left out: nobody could read the record.
func (r Result) Encode() []byte {
	dst := make([]byte, 0, 512)
	text := func(name, s string) {
		dst = appendString(append(dst, name...), s)
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
	instant(`,"enqueued_at":`, r.EnqueuedAt)
	instant(`,"finished_at":`, r.FinishedAt)
	return append(dst, '}')
}
