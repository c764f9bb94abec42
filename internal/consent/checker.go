package consent

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wxcourier/wxcourier/internal/background"
)

// Mode says what follows from the consent of the receivers of an app's messages.
type Mode string

// The modes. "" is Off.
const (
	Off     Mode = "off"
	Observe Mode = "observe"
	Enforce Mode = "enforce"
)

// Counts reports whether the consent of persons is counted.
func (m Mode) Counts() bool { return m == Observe || m == Enforce }

// ReasonNoConsent is the reason of a message that was refused without a call.
const ReasonNoConsent = "no_consent"

const (
	// callTimeout bounds a call of Redis: a message does not depend on it.
	callTimeout = time.Second
	// sendingDelay is the delay of a message while others to the person have reserved all credits.
	sendingDelay = 3 * time.Second
	// lookAgain is how often CheckWithin looks for news.
	lookAgain = 500 * time.Millisecond
	// failureLogEvery is how often a failure of Redis is logged.
	failureLogEvery = time.Minute
)

// CheckerDeps are the dependencies of a Checker. KindOf, OnCheck and Now may be nil.
type CheckerDeps struct {
	Store  *Store
	Counts *Recorder
	KindOf KindOf
	// Hold is how long a credit is reserved for a run that was not heard of again.
	Hold time.Duration
	// PushDelay is how long after a message was enqueued the push of its acceptance may come.
	PushDelay time.Duration
	OnCheck   func(app, typ string, check Check) // counts a check in a metric
	Log       *slog.Logger
	Now       func() time.Time // the clock of Began; nil is time.Now
}

// Checker checks the consent of receivers before messages are sent, and applies WeChat's answers to it.
// Create it with NewChecker. It is safe for concurrent use.
type Checker struct {
	CheckerDeps
	loggedAt atomic.Int64 // when a failure of Redis was last logged, in ns since 1970

	mu     sync.Mutex
	unsure []unsure // guarded by mu: in the order in which they came
}

// NewChecker creates a Checker. It does no I/O.
func NewChecker(deps CheckerDeps) *Checker {
	if deps.OnCheck == nil {
		deps.OnCheck = func(string, string, Check) {}
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	return &Checker{CheckerDeps: deps}
}

// Message is a message that is to be sent.
type Message struct {
	Send     // Check sets Began
	Type     string
	Mode     Mode      // not Off
	Enqueued time.Time // or when the request for it came
	Last     bool      // it cannot be checked again later
}

// A Decision is what is to be done about a message.
type Decision int

// The decisions.
const (
	Proceed Decision = iota
	Wait             // check it again after Checked.Delay: news may be on their way
	Refuse           // end it without a call, as ReasonNoConsent
)

// Checked is what was found about the consent of a message's receiver before the call.
type Checked struct {
	Decision Decision
	Delay    time.Duration // of Wait

	message  Message
	failed   bool // Redis did not answer
	kind     Kind
	answer   Answer
	accepted int64 // the last acceptance
	held     bool  // a credit is reserved
	early    bool  // the push of the acceptance may not have come yet
	// wouldStop: Observe sends the message, which Enforce would refuse. wouldWait: which Enforce would hand
	// back first, for the push of an acceptance.
	wouldStop, wouldWait bool
}

// Check reserves a credit of a message's receiver, and says what is to be done. When Redis does not
// answer, the message is sent. The result goes to Settle, whatever becomes of the message.
func (c *Checker) Check(ctx context.Context, m Message) *Checked {
	k := c.find(ctx, m)
	c.count(k.message, k.check())
	return k
}

// CheckWithin is Check for a message that cannot be handed back: it waits for news of the receiver's
// consent, for so long at most, and never decides on Wait.
func (c *Checker) CheckWithin(ctx context.Context, m Message, patience time.Duration) *Checked {
	end := time.Now().Add(patience)
	k := c.find(ctx, m)
	if k.Decision == Wait {
		c.count(m, CheckWaited)
	}
	for k.Decision == Wait {
		m.Last = !background.Sleep(ctx, min(lookAgain, k.Delay, time.Until(end))) || !time.Now().Before(end)
		k = c.find(ctx, m)
	}
	c.count(k.message, k.check())
	return k
}

// find reserves a credit, and decides.
func (c *Checker) find(ctx context.Context, m Message) *Checked {
	m.Began = c.Now()
	k := &Checked{message: m}
	if err := c.reserve(ctx, k); err != nil {
		c.warn(m, err)
		return &Checked{message: m, failed: true}
	}
	var wait time.Duration
	switch {
	case k.answer.May == No && k.early:
		wait = min(c.PushDelay-m.Began.Sub(m.Enqueued), c.PushDelay) // the producer's clock may be ahead
	case k.answer.Why == WhySending:
		wait = sendingDelay
	}
	no := k.answer.May == No
	switch enforced := m.Mode == Enforce; {
	case wait > 0 && !m.Last && enforced:
		k.Decision, k.Delay = Wait, wait
	case wait > 0 && !m.Last:
		k.wouldWait = true
	case no && enforced:
		k.Decision = Refuse
	case no:
		k.wouldStop = true
	}
	return k
}

// reserve reserves a credit of a one-time template, and reads the entry of a long-term one.
func (c *Checker) reserve(ctx context.Context, k *Checked) (err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
	defer cancel()
	m := k.message
	k.kind = c.KindOf.Of(m.App, m.Template)
	var entry Entry
	if k.kind == LongTerm {
		entry, err = c.Store.Get(ctx, m.App, m.OpenID, m.Template)
	} else {
		entry, k.held, err = c.Store.Reserve(ctx, m.Send, c.Hold)
	}
	k.answer, k.accepted = entry.Answer(k.kind, m.Began), entry.accepted
	k.early = m.Began.Sub(m.Enqueued) < c.PushDelay
	return err
}

// check returns what is counted before the call.
func (k *Checked) check() Check {
	switch {
	case k.failed:
		return CheckError
	case k.Decision == Wait, k.wouldWait:
		return CheckWaited
	case k.Decision == Refuse:
		return CheckStopped
	case k.wouldStop:
		return CheckWouldStop
	case k.answer.May == Yes:
		return CheckAllowed
	}
	return CheckUnknown
}

// hopeless reports whether the entry has no credit, regardless of its age and of the template's kind.
func (k *Checked) hopeless() bool {
	return k.answer.May == No || k.answer.Why == WhyRecheck || k.answer.Why == WhyKind
}

// A Reply is what became of a call, as far as consent goes.
type Reply int

// The replies.
const (
	NotTaken Reply = iota // WeChat certainly did not take the message, or was not called
	Taken
	Refused // 43101: no credit was left, or the person refuses the template
	NoReply // WeChat may have taken it
)

// Settle applies WeChat's answer to the entry of the receiver; a nil Checked is none. After NoReply
// it does nothing: the reservation expires. After a failure of Redis the credit counts as doubtful.
func (c *Checker) Settle(ctx context.Context, k *Checked, r Reply) {
	if k == nil || k.failed || k.Decision != Proceed {
		return
	}
	var step func(context.Context, Send) error
	switch r {
	case Taken:
		step = c.taken(k)
	case Refused:
		c.countRefusal(k)
		step = c.Store.Zero
	case NotTaken:
		if k.held {
			step = c.Store.Release
		}
	case NoReply:
	}
	if step == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
	defer cancel()
	if err := step(ctx, k.message.Send); err != nil {
		c.warn(k.message, err)
	}
}

// taken returns the step after WeChat accepted a message, nil for none.
func (c *Checker) taken(k *Checked) func(context.Context, Send) error {
	switch {
	case k.wouldStop:
		c.count(k.message, CheckWrong)
	case k.wouldWait && k.answer.May == No:
		c.judgeLater(k)
	}
	var basis Basis
	switch {
	case k.held:
		basis = Reserved
	case k.early && (k.hopeless() || k.answer.Why == WhyNoNews) && k.kind != LongTerm:
		basis = PushAhead
	case k.hopeless():
		basis = NoCredit
	default:
		return nil
	}
	return func(ctx context.Context, m Send) error { return c.Store.Commit(ctx, m, basis) }
}

// countRefusal counts a call that met 43101.
func (c *Checker) countRefusal(k *Checked) {
	switch {
	case k.wouldWait && k.answer.May == No: // Enforce would have waited in vain
		c.count(k.message, CheckWouldStop)
		c.count(k.message, CheckRight)
	case k.wouldStop:
		c.count(k.message, CheckRight)
	case k.answer.May == Yes:
		c.count(k.message, CheckMissed)
	default:
		c.count(k.message, CheckUnforeseen)
	}
}

func (c *Checker) count(m Message, check Check) {
	c.OnCheck(m.App, m.Type, check)
	c.Counts.Add(m.App, m.Type, check)
}

// warn logs a failure of Redis, once a minute.
func (c *Checker) warn(m Message, err error) {
	now, last := time.Now().UnixNano(), c.loggedAt.Load()
	if now-last > int64(failureLogEvery) && c.loggedAt.CompareAndSwap(last, now) {
		c.Log.Warn("the consent of a receiver is not known: Redis did not answer; the message does not wait for it",
			slog.String("app", m.App), slog.String("type", m.Type), slog.Any("err", err))
	}
}
