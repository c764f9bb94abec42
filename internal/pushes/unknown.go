package pushes

import (
	"context"
	"encoding/json"
	"log/slog"
	"slices"
	"time"

	"github.com/wxcourier/wxcourier/internal/asynqwire"
	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/wechat/callback"
)

// A receipt with a msgid that is not recorded may belong to a message whose outcome is unknown: WeChat
// took the request, and its answer was lost. That is certain enough only if everything else is excluded,
// so the receipt resolves a message when
//
//   - it came within promptly of the time that it names, and the message was sent in the minutes before;
//   - the message is for its person, of a type that it is for, and of its template if it names one;
//   - no other task for the person may be the one that it is for;
//   - no other receipt without a message came for the person.
//
// Anything else is left as it is. What another program sends for the same app, to the same person, from
// the same template, is not known here.
const (
	// promptly is the maximum delay of a receipt that may resolve a message. It is shorter than
	// ledger.UnknownAwaited and than msgids are known after a record's end.
	promptly = 30 * time.Minute
	// sentBefore is how long before its receipt a message was sent that it may resolve.
	sentBefore = 5 * time.Minute
	// clockSkew is by how much WeChat's clock may be behind that of Redis for a message to be resolved.
	// Receipts have whole seconds. Other messages for the person are excluded only if they were sent more
	// than sentBefore later, so that a larger skew resolves no message rather than the wrong one.
	clockSkew = 5 * time.Second
)

// typesOf returns the types of tasks whose receipts come as an event.
func typesOf(event string) []string {
	switch event {
	case callback.EventTemplateSent:
		return []string{tasks.TypeTemplate}
	case callback.EventSubscribeSent:
		return []string{tasks.TypeSubscribe, tasks.TypeBizSubscribe}
	}
	return nil
}

// finding is whether a receipt is for a task of the person.
type finding int

const (
	another   finding = iota // the receipt is not for the task
	possible                 // it may be for the task, which cannot be resolved, or not yet
	candidate                // it may be for the task, whose outcome is unknown
	same                     // the task has its msgid
)

// resolve joins receipts to messages with the outcome unknown. It returns the receipts that remain.
func (s *Receipts) resolve(ctx context.Context, app string, open []receipt, now time.Time) ([]receipt, error) {
	var ripe bool
	for _, r := range open {
		ripe = ripe || s.mayResolve(r, now)
	}
	if !ripe {
		return open, nil
	}
	unknown, err := s.ledger.Unknowns(ctx, app)
	if isReply(err) || err == nil && len(unknown) == 0 {
		return open, nil
	}
	if err != nil {
		return nil, err
	}
	early, err := s.earlyOfPersons(ctx, app)
	if err != nil {
		return nil, err
	}
	var remain []receipt
	for _, r := range open {
		ended := false
		if s.mayResolve(r, now) && unknown[r.Person] > 0 {
			if ended, err = s.resolveOne(ctx, app, r, early.alone(r)); err != nil {
				return nil, err
			}
		}
		if !ended {
			remain = append(remain, r)
		}
	}
	return remain, nil
}

// mayResolve reports whether a receipt may resolve a message now. Until DeadAfter has passed the worker
// that sent the message may still record its answer.
func (s *Receipts) mayResolve(r receipt, now time.Time) bool {
	late := time.Duration(r.Came-r.Created) * time.Second
	return r.Person != "" && len(typesOf(r.Event)) > 0 && r.age(now) >= s.Policy.DeadAfter && late < promptly && late > -promptly
}

// resolveOne looks for the only message that a receipt may be for, and joins it if the receipt is alone:
// the only one without a message for its person. It reports whether the receipt has ended: it was joined,
// or is that of a message which has one.
func (s *Receipts) resolveOne(ctx context.Context, app string, r receipt, alone bool) (ended bool, err error) {
	all, err := s.ledger.PersonTasks(ctx, app, r.Person)
	if err != nil {
		return false, err
	}
	var of *ledger.PersonTask
	for i := range all {
		switch s.compare(r, &all[i]) {
		case same:
			s.OnDropped(app, DroppedRepeated)
			return true, nil
		case possible:
			return false, nil
		case candidate:
			if of != nil {
				return false, nil
			}
			of = &all[i]
		case another:
		}
	}
	if of == nil || !alone {
		return false, nil
	}
	return s.supersede(ctx, app, r, of)
}

// compare reports whether a receipt may be for a task of its person.
func (s *Receipts) compare(r receipt, t *ledger.PersonTask) finding {
	created := time.Unix(r.Created, 0)
	sent := func(at time.Time, before time.Duration) bool {
		return at.After(created.Add(-sentBefore)) && at.Before(created.Add(before))
	}
	if t.Gone { // it ended before, or is shorter kept than a receipt may take
		if s.Policy.Retention > ledger.UnknownAwaited {
			return another
		}
		return possible
	}
	_, typ, _, ok := tasks.ParseQueue(t.Queue)
	if !ok || !slices.Contains(typesOf(r.Event), typ) {
		return another
	}
	var result tasks.Result
	if t.Outcome != "" && json.Unmarshal(t.Result, &result) != nil {
		return possible
	}
	if tasks.Outcome(t.Outcome) == tasks.OutcomeAccepted && result.MsgID == r.MsgID {
		return same
	}
	if t.Generation != 0 {
		return possible // the redrive deleted what is known of the earlier send, which the receipt may be for
	}
	// An outcome is recorded after its send, mostly at once.
	recent := result.FinishedAt.After(created.Add(-sentBefore))
	switch tasks.Outcome(t.Outcome) {
	case "":
		if t.Runner != "" && sent(t.Since, sentBefore) {
			return possible // it may still get the outcome unknown
		}
	case tasks.OutcomeAccepted:
		if !ledger.ValidMsgID(result.MsgID) && recent {
			return possible
		}
	case tasks.OutcomeFailed:
		if recent {
			return possible // it was busy, says WeChat, and may have taken it
		}
	case tasks.OutcomeUnknown:
		if t.Runner == "" && !recent || t.Runner != "" && !sent(t.Since, sentBefore) {
			return another
		}
		return compareUnknown(r, t, t.Runner != "" && sent(t.Since, clockSkew))
	case tasks.OutcomeRefused, tasks.OutcomeRejected, tasks.OutcomeExpired, tasks.OutcomeCanceled:
	}
	return another
}

// compareUnknown is compare for a task with the outcome unknown. before is whether it was sent before the
// receipt was made.
func compareUnknown(r receipt, t *ledger.PersonTask, before bool) finding {
	e, err := tasks.DecodePayload(t.Payload)
	if err != nil {
		return possible
	}
	receiver, template := e.ReceiverAndTemplate()
	switch {
	case r.Template != "" && template != "" && r.Template != template:
		return another
	case !before, ledger.PersonOf(receiver) != r.Person:
		return possible
	}
	return candidate
}

// earlyMsgIDs is the msgids of an app's early receipts, by person.
type earlyMsgIDs map[string]map[string]bool

// alone reports whether the person of a receipt has no other early receipt.
func (e earlyMsgIDs) alone(r receipt) bool {
	ids := e[r.Person]
	return len(ids) == 0 || len(ids) == 1 && ids[r.MsgID]
}

func (s *Receipts) earlyOfPersons(ctx context.Context, app string) (earlyMsgIDs, error) {
	early, err := s.ledger.EarlyReceipts(ctx, []string{app}, 0)
	if err != nil {
		return nil, err
	}
	all := make(earlyMsgIDs)
	for _, e := range early[app] {
		var r receipt
		if json.Unmarshal([]byte(e.Text), &r) != nil {
			continue
		}
		if all[r.Person] == nil {
			all[r.Person] = make(map[string]bool)
		}
		all[r.Person][r.MsgID] = true
	}
	return all, nil
}

// supersede records that a message was accepted, in place of the outcome unknown, and joins its receipt.
func (s *Receipts) supersede(ctx context.Context, app string, r receipt, t *ledger.PersonTask) (bool, error) {
	var result tasks.Result
	if err := json.Unmarshal(t.Result, &result); err != nil {
		return false, nil //nolint:nilerr // compare has read it
	}
	result.Outcome, result.Supersedes = tasks.OutcomeAccepted, tasks.OutcomeUnknown
	result.ErrCode, result.ErrMsg, result.RID, result.Reason = 0, "", "", ""
	result.MsgID, result.FinishedAt = r.MsgID, s.Now().UTC()
	ref := ledger.Ref{App: app, ID: t.ID, Batch: result.Batch}
	settled, err := s.ledger.Settle(ctx, ref, ledger.SettleRequest{
		Outcome: string(result.Outcome), Result: result.Encode(), Queue: t.Queue, Generation: t.Generation,
		Replaces: t.Runner, NoBlob: true, MsgID: r.MsgID,
	})
	if err != nil {
		return false, err
	}
	if !settled.Written {
		return false, nil // the answer was recorded meanwhile
	}
	s.OnOutcome(result)
	s.log.Info("a receipt has resolved an unknown outcome", slog.String("app", app), slog.String("type", result.Type), slog.String("task", t.ID))
	if _, err := asynqwire.DeleteArchived(ctx, s.Redis, t.Queue, app+":"+t.ID, s.Now().Unix()+1); err != nil {
		s.log.Debug("the archived copy of a task could not be deleted", slog.String("app", app), slog.String("task", t.ID), slog.Any("err", err))
	}
	open, err := s.join(ctx, app, []receipt{r})
	return len(open) == 0, err
}
