package proxy

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/wxcourier/wxcourier/internal/dispatch"
	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/wechat"
)

// stateSending is the state of a message that a client sends itself, until its outcome: asynq does not
// have it.
const stateSending = string(tasks.StateSending)

// message is a message with an Idempotency-Key. It is a task that the gateway itself sends: its id is
// the key, and its record, its fence and its outcome are those of every task. A client that repeats
// the request gets the outcome that is recorded. A message that WeChat did not take, for its pace or
// because it was busy, has none: the next request with its key sends it.
type message struct {
	tasks.Envelope
	digest   string
	prepared bool // the envelope passed the checks, so that it can be redriven
	receipts bool // WeChat pushes one for each message of the type
	runner   string
	opened   ledger.OpenResult
}

func (m *message) ref() ledger.Ref { return ledger.Ref{App: m.App, ID: m.ID} }

// newMessage returns the message of a request. Its body is not judged here, but by WeChat.
func newMessage(e endpoint, id string, r Request) *message {
	m := &message{
		Envelope: tasks.Envelope{Type: e.spec.Type, App: r.App, ID: id, Body: r.Body, Priority: tasks.Urgent},
		runner:   newRunner(),
		receipts: e.spec.Receipts,
	}
	checked := m.Envelope
	if digest, err := checked.PrepareWithDigest(time.Now()); err == nil {
		m.Envelope, m.digest, m.prepared = checked, digest, true
	}
	return m
}

// The reasons why a message is not sent.
var (
	errSettled  = errors.New("proxy: the message has an outcome")
	errUnderWay = errors.New("proxy: another request with the key is under way")
)

// sendOnce sends a message once, however often its request is repeated.
func (p *Proxy) sendOnce(w http.ResponseWriter, r *http.Request, e endpoint, request Request) error {
	id := r.Header.Get("Idempotency-Key")
	if !tasks.ValidID(id) {
		return errIdempotencyKey
	}
	ctx, m := r.Context(), newMessage(e, id, request)
	if known, err := p.deps.Tasks.Recorded(ctx, m.App, id); err == nil {
		if known.Outcome != "" {
			if _, err := p.mark(ctx, m); err != nil {
				return err
			}
		}
		if known.Outcome != "" || known.State != tasks.StateSending {
			return p.answerKnown(ctx, w, m)
		}
	} else if !errors.Is(err, tasks.ErrNotFound) {
		return errRedis
	}
	check := p.checkConsent(ctx, e, request, m.runner)
	if refused(check) {
		return p.refuseOnce(ctx, w, m)
	}
	a := p.caller.attempt(ctx, e, request, func() error { return p.open(ctx, m) })
	p.settleConsent(ctx, check, a)
	switch {
	case m.opened.Admission == ledger.Proceed:
		p.settle(context.WithoutCancel(ctx), m, a)
	case errors.Is(a.err, errSettled), errors.Is(a.err, errUnderWay):
		return p.answerKnown(ctx, w, m)
	case a.err != nil && a.refusal == nil:
		return a.err
	}
	if a.refusal != nil {
		return a.refusal
	}
	writeAnswer(w, a.answer)
	return nil
}

// open marks the message's id and raises its fence, right before it is written. The error is a
// *Refusal, errSettled or errUnderWay.
func (p *Proxy) open(ctx context.Context, m *message) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), redisTimeout)
	defer cancel()
	if err := p.deps.Redis.SAdd(ctx, ledger.AppsKey, m.App).Err(); err != nil {
		return errRedis
	}
	marked, err := p.mark(ctx, m)
	switch {
	case err != nil:
		return err
	case marked.Done:
		return errSettled
	case !marked.New:
		if record, err := p.ledger.Record(ctx, m.App, m.ID); err != nil || record.State != stateSending {
			return errUnderWay // a task that was enqueued
		}
	}
	m.opened, err = p.ledger.Open(ctx, m.ref(), ledger.OpenRequest{Runner: m.runner, Queue: m.Queue(), Fenced: true, Marked: true})
	if err != nil {
		return errRedis
	}
	switch m.opened.Admission {
	case ledger.Proceed:
		return nil
	case ledger.Busy:
		return errUnderWay
	case ledger.Unknown, ledger.Lost, ledger.Forgotten:
		p.end(ctx, m, attempt{verdict: dispatch.Verdict{Outcome: tasks.OutcomeUnknown, Reason: "runner_lost"}})
	case ledger.Canceled, ledger.Expired:
		p.end(ctx, m, attempt{verdict: dispatch.Verdict{Outcome: tasks.OutcomeCanceled}})
	case ledger.Settled:
	}
	return errSettled
}

// mark claims the id of a message, and returns errKeyReused where it is known for another one.
func (p *Proxy) mark(ctx context.Context, m *message) (ledger.Claim, error) {
	marked := p.ledger.MarkMany(ctx, []ledger.MarkRequest{{
		Ref: m.ref(), Queue: m.Queue(), State: stateSending, Enqueued: time.Now(), Digest: m.digest,
		Receiver: m.Receiver(),
	}})[0]
	if marked.Err != nil {
		return ledger.Claim{}, errRedis
	}
	if _, typ, _, ok := tasks.ParseQueue(marked.Queue); marked.Differs || ok && typ != m.Type {
		return ledger.Claim{}, errKeyReused
	}
	return marked.Claim, nil
}

// settle records what became of a message.
func (p *Proxy) settle(ctx context.Context, m *message, a attempt) {
	if a.verdict.Outcome != "" {
		p.end(ctx, m, a)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	err := p.ledger.Defer(ctx, m.ref(), ledger.DeferRequest{
		Runner: m.runner, State: stateSending, NotAccepted: !dispatch.NoAnswer(a.err), NotCalled: !a.called,
		Last: a.last(time.Now()), Wait: a.verdict.Delay,
	})
	if err != nil {
		p.logUnrecorded(m, err)
	}
}

// last returns the answer to a call that did not end its message, for the record; zero without a call.
func (a attempt) last(now time.Time) ledger.Answer {
	var api *wechat.APIError
	switch {
	case errors.As(a.err, &api):
		return ledger.Answer{Code: api.Code, Class: dispatch.ClassOf(a.err), Msg: api.Msg, RID: api.RID, At: now}
	case a.err != nil && a.called:
		return ledger.Answer{Class: dispatch.ClassOf(a.err), Msg: a.err.Error(), At: now}
	}
	return ledger.Answer{}
}

// settleTries is how often an outcome is written while Redis does not answer. What could not be
// written is unknown to the next request with the key.
const settleTries = 3

// end records the outcome of a message. The first one stays, unless it was recorded as unknown
// because this runner was held to be dead.
func (p *Proxy) end(ctx context.Context, m *message, a attempt) {
	result := m.result(a)
	ending := ledger.SettleRequest{
		Outcome: string(result.Outcome), Result: result.Encode(), Queue: m.Queue(), Generation: m.opened.Generation, NoBlob: true,
	}
	if m.prepared {
		if payload, err := m.Encode(); err == nil {
			ending.Content = ledger.TaskContent{Payload: payload}
		}
	}
	if app, _ := p.deps.App(m.App); app.Receipts && m.receipts {
		ending.AwaitReceipt(result.MsgID, m.Receiver())
	}
	var settled ledger.SettleResult
	var err error
	for range settleTries {
		within, cancel := context.WithTimeout(ctx, redisTimeout)
		settled, err = p.ledger.Settle(within, m.ref(), ending)
		if err == nil && !settled.Written && settled.Outcome == string(tasks.OutcomeUnknown) && ending.Replaces == "" && m.opened.Admission == ledger.Proceed {
			result.Supersedes = tasks.OutcomeUnknown
			ending.Result, ending.Replaces = result.Encode(), m.runner
			settled, err = p.ledger.Settle(within, m.ref(), ending)
		}
		cancel()
		if err == nil {
			if settled.Written {
				p.deps.CountOutcome(result)
			}
			return
		}
	}
	p.logUnrecorded(m, err)
}

func (p *Proxy) logUnrecorded(m *message, err error) {
	p.deps.Log.Warn("the outcome of a message could not be recorded", slog.String("app", m.App), slog.String("type", m.Type),
		slog.String("task", m.ID), slog.Any("err", err))
}

// result returns the record of a message's outcome.
func (m *message) result(a attempt) tasks.Result {
	now := time.Now().UTC()
	answer := a.answer.Answer
	r := tasks.Result{
		ID: m.ID, App: m.App, Type: m.Type, State: tasks.StateDone, Outcome: a.verdict.Outcome, Reason: a.verdict.Reason,
		Attempts: m.opened.Attempts, Generation: m.opened.Generation, EnqueuedAt: m.opened.Enqueued, FinishedAt: now,
		ErrMsg: answer.Msg, RID: answer.RID, MsgID: answer.MsgID,
	}
	if m.opened.Admission == ledger.Proceed && !a.called {
		r.Attempts-- // open counted this one, which made no call
	}
	var api *wechat.APIError
	switch {
	case errors.As(a.err, &api):
		r.ErrCode, r.ErrMsg, r.RID = api.Code, api.Msg, api.RID
	case a.err != nil && r.Reason != "":
		r.Reason += ": " + a.err.Error()
	}
	return r
}

// answerKnown answers a request whose key is known, when its message has an outcome. It waits for that
// as long as for a permit.
func (p *Proxy) answerKnown(ctx context.Context, w http.ResponseWriter, m *message) error {
	waiting, cancel := context.WithTimeout(ctx, max(p.caller.wait, time.Second))
	defer cancel()
	result, err := p.deps.Tasks.Wait(waiting, m.App, m.ID)
	switch {
	case result.Outcome != "":
	case errors.Is(err, tasks.ErrNotFound), errors.Is(err, context.DeadlineExceeded), ctx.Err() != nil:
		return errKeyUnderWay
	case err != nil:
		return errRedis
	}
	if result.Type != m.Type {
		return errKeyReused
	}
	return writeResult(w, result)
}

// resultAnswer is WeChat's answer to a message, as a result has it.
type resultAnswer struct {
	ErrCode int         `json:"errcode"`
	ErrMsg  string      `json:"errmsg"`
	MsgID   json.Number `json:"msgid,omitempty"`
}

// writeResult answers with the outcome of a task: WeChat's code, text and ids again.
func writeResult(w http.ResponseWriter, r tasks.Result) error {
	w.Header().Set("Idempotent-Replayed", "true")
	switch r.Outcome {
	case tasks.OutcomeAccepted, tasks.OutcomeRefused, tasks.OutcomeRejected:
	case tasks.OutcomeUnknown:
		return errNoAnswer
	case tasks.OutcomeExpired, tasks.OutcomeFailed, tasks.OutcomeCanceled:
		return errBusy.because("the task with this Idempotency-Key ended as %s, and was not sent", r.Outcome)
	}
	if r.Outcome == tasks.OutcomeRefused && r.ErrCode == 0 { // without a call
		return errNoConsent
	}
	if r.Outcome == tasks.OutcomeRejected && r.ErrCode == 0 {
		return errNotSent.because("the task with this Idempotency-Key was rejected without a call: %s", r.Reason)
	}
	answer := resultAnswer{ErrCode: r.ErrCode, ErrMsg: r.ErrMsg}
	if r.RID != "" {
		answer.ErrMsg += " rid: " + r.RID
	}
	if _, err := json.Number(r.MsgID).Int64(); err == nil {
		answer.MsgID = json.Number(r.MsgID)
	}
	writeJSON(w, http.StatusOK, answer)
	return nil
}
