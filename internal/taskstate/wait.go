package taskstate

import (
	"strings"
	"time"

	"github.com/wxcourier/wxcourier/internal/asynqwire"
	"github.com/wxcourier/wxcourier/internal/hold"
)

// What a task without an outcome waits for.
const (
	ForProcessAt = "process_at" // the time that its producer set
	ForTurn      = "turn"       // the tasks before it in its queue, and a permit
	ForPermit    = "permit"     // a replica has it, and prepares its request or waits for a permit
	ForAnswer    = "answer"     // a replica sends it
	ForRetry     = "retry"      // the next attempt, after a temporary error
	ForReceiver  = "receiver"   // other messages to the same receiver, or WeChat's limit for one receiver
	ForCallback  = "callback"   // WeChat's push, which ends it
	ForHours     = "hours"      // the app's hours
	ForLimit     = "limit"      // a limit that is used up by our own count
	ForHold      = "hold"       // the end of a hold
	ForPause     = "pause"      // an operator paused its queue in the asynq web UI
	ForArchive   = "archive"    // an operator archived it in the asynq web UI, without an outcome
	ForSweep     = "sweep"      // asynq does not have it: a sweep of the workers ends it
)

// Wait is one thing that a task waits for.
type Wait struct {
	For    string    `json:"for"`
	Reason string    `json:"reason,omitempty"` // of a hold; the limit's window
	Until  time.Time `json:"until,omitzero"`   // zero: no end is known
	// Blocked: the wait has no end of its own; an operator or a sweep ends it.
	Blocked bool `json:"blocked,omitempty"`
}

// endsBefore reports whether a wait ends before another.
func (w Wait) endsBefore(o Wait) bool {
	if w.Blocked || o.Blocked {
		return o.Blocked && !w.Blocked
	}
	return w.Until.Before(o.Until)
}

// Last returns the wait that ends last, of several; the first of those that end together. The
// zero Wait means that there is none.
func Last(waits []Wait) Wait {
	var last Wait
	for i, w := range waits {
		if i == 0 || last.endsBefore(w) {
			last = w
		}
	}
	return last
}

// fresh is the age up to which a marked task that asynq does not have counts as being enqueued.
const fresh = 10 * time.Second

// Waits returns what a task waits for, the task's own place first; nil when it has ended.
//
// A hold on a template is no wait: its tasks are not held back, but rejected in their turn.
func (t Task) Waits(now time.Time) []Wait {
	if t.Ended() {
		return nil
	}
	own := t.own(now)
	switch own.For {
	case ForAnswer, ForSweep, ForArchive, ForCallback:
		return []Wait{own} // nothing else matters to it
	}
	var waits []Wait
	if own.For != ForTurn {
		waits = append(waits, own)
	}
	for _, h := range t.Holds {
		if h.Stops(t.App, t.Lane) {
			waits = append(waits, Wait{For: ForHold, Reason: h.Reason, Until: h.Until, Blocked: h.Until.IsZero()})
		}
	}
	if t.Copy != nil && t.Copy.Paused {
		if _, ours := hold.ParsePause(t.Copy.PauseBy); !ours {
			waits = append(waits, Wait{For: ForPause, Blocked: true})
		}
	}
	if len(waits) == 0 {
		waits = append(waits, own)
	}
	return waits
}

// own returns what the task waits for by its own state.
func (t Task) own(now time.Time) Wait {
	if t.Copy == nil {
		if !t.Record.Enqueued.IsZero() && now.Sub(t.Record.Enqueued) < fresh && t.Record.Attempts == 0 {
			return Wait{For: ForTurn}
		}
		return Wait{For: ForSweep, Blocked: true}
	}
	switch t.Copy.State {
	case asynqwire.Scheduled:
		return Wait{For: ForProcessAt, Until: t.Copy.Due}
	case asynqwire.Retry:
		return Wait{For: t.retryFor(), Until: t.Copy.Due}
	case asynqwire.Archived:
		return Wait{For: ForArchive, Blocked: true}
	case asynqwire.Active:
		if t.Record.State == "sending" {
			return Wait{For: ForAnswer}
		}
		return Wait{For: ForPermit}
	}
	return Wait{For: ForTurn}
}

// retryFor returns what a task in asynq's retry set waits for.
func (t Task) retryFor() string {
	switch {
	case t.Copy.LastErr == AwaitsCallback:
		return ForCallback
	case strings.HasSuffix(t.Copy.LastErr, OutsideHours):
		return ForHours
	case t.Copy.LastErr == ReceiverBusy:
		return ForReceiver
	case t.Record.State == "waiting" && strings.HasPrefix(t.Record.Last.Class, "per_user"):
		return ForReceiver
	}
	return ForRetry
}
