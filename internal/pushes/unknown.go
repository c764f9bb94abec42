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

// A receipt whose msgid no message has may be that of a message with the outcome unknown: WeChat took
// the request, and its answer was lost. That is certain enough only if everything else is excluded, so
// the receipt resolves a message when
//
//   - it came within promptly of the time that it names, and the message was sent in the minutes before;
//   - the message is for its person, of a type that it is for, and of its template if it names one;
//   - no other task for the person may be the one that it is for;
//   - no other receipt without a message came for the person.
//
// Anything else is left as it is. What another program sends for the same app, to the same person, from
// the same template, is not known here.
const (
	// promptly is within which time a receipt that may resolve a message has come. It is shorter than
	// ledger.UnknownAwaited and than msgids are known after a record's end.
	promptly = 30 * time.Minute
	// sentBefore is how long before its receipt a message was sent that it may resolve.
	sentBefore = 5 * time.Minute
	// clockSkew is by how much WeChat's clock may be behind that of Redis. Receipts have whole seconds.
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
	var remain []receipt
	for _, r := range open {
		ended := false
		if s.mayResolve(r, now) && unknown[r.Person] > 0 {
			if ended, err = s.resolveOne(ctx, app, r); err != nil {
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

// resolveOne looks for the message that a receipt may only be for, and joins it. It reports whether the
// receipt has ended: it was joined, or is that of a message which has one.
func (s *Receipts) resolveOne(ctx context.Context, app string, r receipt) (ended bool, err error) {
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
	if of == nil {
		return false, nil
	}
	if alone, err := s.alone(ctx, app, r); err != nil || !alone {
		return false, err
	}
	return s.supersede(ctx, app, r, of)
}

// compare reports whether a receipt may be for a task of its person.
func (s *Receipts) compare(r receipt, t *ledger.PersonTask) finding {
	created := time.Unix(r.Created, 0)
	within := func(at time.Time) bool {
		return at.After(created.Add(-sentBefore)) && at.Before(created.Add(clockSkew))
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
	// An outcome is recorded after its send, mostly at once.
	recent := result.FinishedAt.After(created.Add(-sentBefore))
	switch tasks.Outcome(t.Outcome) {
	case "":
		if t.Runner != "" && within(t.Since) {
			return possible // it may still get the outcome unknown
		}
	case tasks.OutcomeAccepted:
		switch {
		case result.MsgID == r.MsgID:
			return same
		case !ledger.ValidMsgID(result.MsgID) && recent:
			return possible
		}
	case tasks.OutcomeFailed:
		if recent {
			return possible // it was busy, says WeChat, and may have taken it
		}
	case tasks.OutcomeUnknown:
		return compareUnknown(r, t, within, recent)
	case tasks.OutcomeRefused, tasks.OutcomeRejected, tasks.OutcomeExpired, tasks.OutcomeCanceled:
	}
	return another
}

// compareUnknown is compare for a task with the outcome unknown.
func compareUnknown(r receipt, t *ledger.PersonTask, within func(time.Time) bool, recent bool) finding {
	if t.Runner != "" && !within(t.Since) {
		return another
	}
	if t.Runner == "" && !recent {
		return another
	}
	e, err := tasks.DecodePayload(t.Payload)
	if err != nil {
		return possible
	}
	receiver, template := e.ReceiverAndTemplate()
	switch {
	case r.Template != "" && template != "" && r.Template != template:
		return another
	case t.Runner == "", t.Generation != 0, ledger.PersonOf(receiver) != r.Person:
		return possible // a redriven message was sent more than once
	}
	return candidate
}

// alone reports whether an app has no other early receipt for the person of a receipt.
func (s *Receipts) alone(ctx context.Context, app string, r receipt) (bool, error) {
	early, err := s.ledger.EarlyReceipts(ctx, []string{app}, 0)
	if err != nil {
		return false, err
	}
	for _, e := range early[app] {
		var other receipt
		if json.Unmarshal([]byte(e.Text), &other) == nil && other.Person == r.Person && other.MsgID != r.MsgID {
			return false, nil
		}
	}
	return true, nil
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
