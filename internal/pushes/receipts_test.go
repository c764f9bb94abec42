package pushes_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/internal/pushes"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/wechat/callback"
)

const app = "wx0123456789abcdef"

// world is an app whose messages are sent and whose receipts come.
type world struct {
	*pushes.Receipts
	t        *testing.T
	rdb      redis.UniversalClient
	mini     *miniredis.Miniredis // of some tests
	ledger   *ledger.Ledger
	logged   bytes.Buffer
	mu       sync.Mutex // guards what follows
	now      time.Time
	receipts []tasks.Result
	sent     []time.Time
	outcomes []tasks.Result
	dropped  []pushes.Dropped
}

func newWorld(t *testing.T, rdb redis.UniversalClient, change ...func(*ledger.Policy)) *world {
	t.Helper()
	policy := ledger.Policy{Retention: 24 * time.Hour, StreamMax: 100_000, DeadAfter: 45 * time.Second, LostLimit: 3, IndexOpenIDs: true}
	for _, c := range change {
		c(&policy)
	}
	w := &world{t: t, rdb: rdb, ledger: ledger.New(rdb, policy), now: time.Now()}
	w.Receipts = pushes.NewReceipts(pushes.ReceiptsDeps{
		Redis: rdb, Policy: policy, Apps: func() []string { return []string{app} }, Log: slog.New(slog.NewTextHandler(&w.logged, nil)),
		OnReceipt: func(r tasks.Result, sent time.Time) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.receipts, w.sent = append(w.receipts, r), append(w.sent, sent)
		},
		OnOutcome: func(r tasks.Result) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.outcomes = append(w.outcomes, r)
		},
		OnDropped: func(_ string, why pushes.Dropped) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.dropped = append(w.dropped, why)
		},
		Now: func() time.Time {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.now
		},
	})
	return w
}

// later moves the clock of the early receipts, and looks at those that are due.
func (w *world) later(d time.Duration) {
	w.t.Helper()
	w.mu.Lock()
	w.now = w.now.Add(d)
	w.mu.Unlock()
	if _, err := w.Retry(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}

// message is a message to a person, from the template T1.
type message struct {
	tasks.Envelope
	runner     string
	generation int
}

func newMessage(id, person string) *message {
	return &message{runner: "runner-" + id, Envelope: tasks.Envelope{
		Type: tasks.TypeSubscribe, App: app, ID: id, Priority: tasks.Urgent,
		Body: fmt.Appendf(nil, `{"touser":%q,"template_id":"T1","data":{"thing1":{"value":"x"}}}`, person),
	}}
}

func (m *message) ref() ledger.Ref { return ledger.Ref{App: app, ID: m.ID, Batch: m.Batch} }

// open enqueues a message, and lets a worker write it to WeChat.
func (w *world) open(m *message) {
	w.t.Helper()
	marked := w.ledger.MarkMany(w.t.Context(), []ledger.MarkRequest{{Ref: m.ref(), Queue: m.Queue(), State: "waiting", Enqueued: time.Now(), Receiver: m.Receiver()}})[0]
	if marked.Err != nil {
		w.t.Fatal(marked.Err)
	}
	w.reopen(m)
}

func (w *world) reopen(m *message) {
	w.t.Helper()
	opened, err := w.ledger.Open(w.t.Context(), m.ref(), ledger.OpenRequest{Runner: m.runner, Queue: m.Queue(), Fenced: true, Marked: true, Receiver: m.Receiver()})
	if err != nil || opened.Admission != ledger.Proceed {
		w.t.Fatal(opened, err)
	}
	m.generation = opened.Generation
}

// settle records the outcome of a message, as a worker does.
func (w *world) settle(m *message, outcome tasks.Outcome, msgid string) ledger.SettleResult {
	w.t.Helper()
	payload, err := m.Encode()
	if err != nil {
		w.t.Fatal(err)
	}
	result := tasks.Result{
		ID: m.ID, App: app, Type: m.Type, Batch: m.Batch, State: tasks.StateDone, Outcome: outcome, ErrMsg: "ok", MsgID: msgid,
		Generation: m.generation, FinishedAt: time.Now().UTC(),
	}
	e := ledger.SettleRequest{
		Outcome: string(outcome), Result: result.Encode(), Queue: m.Queue(), Generation: m.generation, NoBlob: true,
		Content: ledger.TaskContent{Payload: payload},
	}
	e.AwaitReceipt(msgid, m.Receiver())
	settled, err := w.ledger.Settle(w.t.Context(), m.ref(), e)
	if err == nil && !settled.Written && settled.Outcome == string(tasks.OutcomeUnknown) {
		e.Replaces = m.runner
		settled, err = w.ledger.Settle(w.t.Context(), m.ref(), e)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return settled
}

// push returns the push of a receipt.
func push(person, template, msgid string, delivery callback.Delivery) callback.Push {
	return callback.Push{
		From: person, Created: time.Now().Truncate(time.Second), Type: "event", Event: callback.EventSubscribeSent,
		Receipts: []callback.Receipt{{MsgID: msgid, TemplateID: template, Delivery: delivery, Status: "as " + string(delivery)}},
	}
}

func (w *world) handle(pushed ...callback.Push) {
	w.t.Helper()
	if err := w.Handle(w.t.Context(), app, pushed); err != nil {
		w.t.Fatal(err)
	}
}

// record returns a message's result, with its receipt.
func (w *world) record(id string) tasks.Result {
	w.t.Helper()
	record, err := w.ledger.Record(w.t.Context(), app, id)
	if err != nil {
		w.t.Fatal(err)
	}
	var r tasks.Result
	if len(record.Result) > 0 {
		if err := json.Unmarshal(record.Result, &r); err != nil {
			w.t.Fatal(err)
		}
	}
	r.Receipt, r.ReceiptStatus, r.ReceiptAt = tasks.DeliveryReceipt(record.Receipt.Kind), record.Receipt.Status, record.Receipt.At
	return r
}

// stream returns the entries of the stream of results.
func (w *world) stream() (all []tasks.Result) {
	w.t.Helper()
	messages, err := w.rdb.XRange(w.t.Context(), ledger.StreamKey(app), "-", "+").Result()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, m := range messages {
		var r tasks.Result
		text, _ := m.Values["result"].(string)
		if err := json.Unmarshal([]byte(text), &r); err != nil {
			w.t.Fatal(err)
		}
		all = append(all, r)
	}
	return all
}

// early returns how many receipts wait for their message.
func (w *world) early() int {
	w.t.Helper()
	early, err := w.ledger.EarlyReceipts(w.t.Context(), []string{app}, 0)
	if err != nil {
		w.t.Fatal(err)
	}
	return len(early[app])
}

func (w *world) drops(want ...pushes.Dropped) {
	w.t.Helper()
	if fmt.Sprint(w.dropped) != fmt.Sprint(want) {
		w.t.Errorf("dropped %v, not %v", w.dropped, want)
	}
}

func TestReceiptAfterItsAnswer(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		w, m := newWorld(t, rdb), newMessage("order-1", "oPerson")
		m.Batch = "spring"
		w.open(m)
		w.settle(m, tasks.OutcomeAccepted, "3395159288267931652")
		sent := push("oPerson", "T1", "3395159288267931652", callback.Blocked)
		other := push("oPerson", "T1", "3395159288267931652", callback.Failed)
		w.handle(sent, other) // the first one of a message stays
		w.handle(sent)
		w.later(time.Minute) // twice: it is that of a message with a receipt, which is known by the person's tasks only when one is unknown
		w.later(2 * time.Hour)
		got := w.record("order-1")
		if got.Receipt != tasks.ReceiptBlocked || got.ReceiptStatus != "as blocked" || !got.ReceiptAt.Equal(sent.Created) {
			t.Errorf("%+v", got)
		}
		if w.drops(pushes.DroppedUnmatched); len(w.receipts) != 1 || w.receipts[0].Receipt != tasks.ReceiptBlocked || !w.sent[0].Equal(got.FinishedAt) || w.receipts[0].Batch != "spring" {
			t.Errorf("OnReceipt: %+v at %v", w.receipts, w.sent)
		}
		all := w.stream()
		want := tasks.Result{
			ID: "order-1", App: app, Type: tasks.TypeSubscribe, Batch: "spring", State: tasks.StateDone, Outcome: tasks.OutcomeAccepted,
			MsgID: "3395159288267931652", Receipt: tasks.ReceiptBlocked, ReceiptStatus: "as blocked", ReceiptAt: sent.Created.UTC(),
		}
		if len(all) != 2 || fmt.Sprint(all[1]) != fmt.Sprint(want) {
			t.Errorf("stream %+v", all)
		}
		if w.early() != 0 {
			t.Error("a receipt still waits")
		}
	})
}

func TestReceiptBeforeItsAnswer(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		w, m := newWorld(t, rdb), newMessage("order-1", "oPerson")
		w.open(m)
		w.handle(push("oPerson", "T1", "11", callback.Delivered), push("oPerson", "T1", "22", callback.Delivered))
		w.later(5 * time.Second)
		if got := w.record("order-1"); got.Receipt != "" || w.early() != 2 {
			t.Errorf("%+v, %d early", got, w.early())
		}
		w.settle(m, tasks.OutcomeAccepted, "11")
		w.later(time.Minute)
		if got := w.record("order-1"); got.Receipt != tasks.ReceiptDelivered || w.early() != 1 {
			t.Errorf("%+v, %d early", got, w.early())
		}
		w.later(time.Hour)
		if w.drops(pushes.DroppedUnmatched); w.early() != 0 {
			t.Errorf("%d early", w.early())
		}
		text := w.logged.String()
		if strings.Contains(text, "oPerson") {
			t.Errorf("an openid is in the log:\n%s", text)
		}
	})
}

// TestEarlyReceiptsHaveNoOpenID: what is kept for an hour does not name the person.
func TestEarlyReceiptsHaveNoOpenID(t *testing.T) {
	_, rdb := redistest.Mini(t)
	w := newWorld(t, rdb)
	w.handle(push("oPersonOfTheTest", "T1", "11", callback.Delivered))
	early, err := w.ledger.EarlyReceipts(t.Context(), []string{app}, 0)
	if err != nil || len(early[app]) != 1 || strings.Contains(early[app][0].Text, "oPerson") || !strings.Contains(early[app][0].Text, `"msgid":"11"`) {
		t.Errorf("%v %v", early, err)
	}
}

// TestReceiptADayLate: the record has expired, or its key of the msgid as well.
func TestReceiptADayLate(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		w := newWorld(t, rdb)
		for _, id := range []string{"1", "2"} {
			m := newMessage(id, "oPerson")
			w.open(m)
			w.settle(m, tasks.OutcomeAccepted, id+id)
			rdb.Del(t.Context(), ledger.TaskKey(app, id))
		}
		rdb.Del(t.Context(), "wxcourier:{"+app+"}:msgid:22")
		yesterday := push("oPerson", "T1", "22", callback.Delivered)
		yesterday.Created = yesterday.Created.Add(-25 * time.Hour)
		w.handle(push("oPerson", "T1", "11", callback.Delivered), yesterday)
		w.later(time.Minute)
		w.later(time.Hour)
		if w.drops(pushes.DroppedExpired, pushes.DroppedUnmatched); len(w.stream()) != 2 {
			t.Errorf("stream %+v", w.stream())
		}
	})
}

// TestUnknownResolved: the answer to a message was lost, and its receipt comes.
func TestUnknownResolved(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		w, m := newWorld(t, rdb), newMessage("order-1", "oPerson")
		m.Batch = "spring"
		earlier := newMessage("order-0", "oPerson")
		w.open(earlier)
		w.settle(earlier, tasks.OutcomeAccepted, "10")
		w.open(m)
		w.archive(m)
		w.handle(push("oPerson", "T1", "11", callback.Delivered))
		w.later(10 * time.Second)
		w.settle(m, tasks.OutcomeUnknown, "")
		w.later(10 * time.Second)
		if got := w.record("order-1"); got.Outcome != tasks.OutcomeUnknown {
			t.Errorf("resolved before the worker counts as dead: %+v", got)
		}
		w.later(time.Minute)
		got := w.record("order-1")
		if got.Outcome != tasks.OutcomeAccepted || got.MsgID != "11" || got.Supersedes != tasks.OutcomeUnknown || got.Receipt != tasks.ReceiptDelivered {
			t.Errorf("%+v", got)
		}
		all := w.stream()
		if last := all[len(all)-2:]; len(all) != 4 || last[0].Supersedes != tasks.OutcomeUnknown || last[0].Receipt != "" || last[1].Receipt != tasks.ReceiptDelivered || last[1].MsgID != "11" {
			t.Errorf("stream %+v", all)
		}
		counts, err := w.ledger.Batch(t.Context(), app, "spring")
		if err != nil || counts["accepted"] != 1 || counts["unknown"] != 0 || counts["done"] != 1 || counts["receipt:delivered"] != 1 {
			t.Errorf("counters %v %v", counts, err)
		}
		if len(w.outcomes) != 1 || len(w.receipts) != 1 || w.receipts[0].Supersedes != tasks.OutcomeUnknown || w.early() != 0 {
			t.Errorf("outcomes %+v, receipts %+v", w.outcomes, w.receipts)
		}
		if info, err := asynq.NewInspectorFromRedisClient(rdb).GetTaskInfo(m.Queue(), m.TaskID()); err == nil {
			t.Errorf("asynq still has the task: %+v", info)
		}
		late := w.settle(m, tasks.OutcomeAccepted, "11") // the worker was not dead
		if again := w.record("order-1"); late.Written || again.Receipt != tasks.ReceiptDelivered {
			t.Errorf("%+v %+v", late, again)
		}
	})
}

// archive puts a copy of a message into asynq's archive.
func (w *world) archive(m *message) {
	w.t.Helper()
	payload, err := m.Encode()
	if err != nil {
		w.t.Fatal(err)
	}
	client := asynq.NewClientFromRedisClient(w.rdb)
	if _, err := client.Enqueue(asynq.NewTask(m.Type, payload), asynq.Queue(m.Queue()), asynq.TaskID(m.TaskID())); err != nil {
		w.t.Fatal(err)
	}
	if err := asynq.NewInspectorFromRedisClient(w.rdb).ArchiveTask(m.Queue(), m.TaskID()); err != nil {
		w.t.Fatal(err)
	}
}

// TestUnknownLeft: a receipt may be for another message than the one with the outcome unknown.
func TestUnknownLeft(t *testing.T) {
	for name, arrange := range map[string]func(w *world) (m *message, p callback.Push){
		"of another template": func(w *world) (*message, callback.Push) {
			return unknown(w, "1"), push("oPerson", "T2", "11", callback.Delivered)
		},
		"for another person": func(w *world) (*message, callback.Push) {
			return unknown(w, "1"), push("oOther", "T1", "11", callback.Delivered)
		},
		"of another type": func(w *world) (*message, callback.Push) {
			p := push("oPerson", "T1", "11", callback.Delivered)
			p.Event = callback.EventTemplateSent
			return unknown(w, "1"), p
		},
		"two are unknown": func(w *world) (*message, callback.Push) {
			unknown(w, "2")
			return unknown(w, "1"), push("oPerson", "T1", "11", callback.Delivered)
		},
		"two receipts": func(w *world) (*message, callback.Push) {
			w.handle(push("oPerson", "T1", "22", callback.Delivered))
			return unknown(w, "1"), push("oPerson", "T1", "11", callback.Delivered)
		},
		"another is being sent": func(w *world) (*message, callback.Push) {
			w.open(newMessage("2", "oPerson"))
			return unknown(w, "1"), push("oPerson", "T1", "11", callback.Delivered)
		},
		"another was accepted without a msgid": func(w *world) (*message, callback.Push) {
			m := newMessage("2", "oPerson")
			w.open(m)
			w.settle(m, tasks.OutcomeAccepted, "")
			return unknown(w, "1"), push("oPerson", "T1", "11", callback.Delivered)
		},
		"sent long after it": func(w *world) (*message, callback.Push) {
			p := push("oPerson", "T1", "11", callback.Delivered)
			p.Created = p.Created.Add(-time.Minute)
			return unknown(w, "1"), p
		},
		"sent long before it": func(w *world) (*message, callback.Push) {
			p := push("oPerson", "T1", "11", callback.Delivered)
			p.Created = p.Created.Add(10 * time.Minute)
			return unknown(w, "1"), p
		},
		"came late": func(w *world) (*message, callback.Push) {
			w.mu.Lock()
			w.now = w.now.Add(40 * time.Minute)
			w.mu.Unlock()
			return unknown(w, "1"), push("oPerson", "T1", "11", callback.Delivered)
		},
		"the receipt of a message that has one": func(w *world) (*message, callback.Push) {
			m := newMessage("2", "oPerson")
			w.open(m)
			w.settle(m, tasks.OutcomeAccepted, "11")
			w.handle(push("oPerson", "T1", "11", callback.Delivered))
			return unknown(w, "1"), push("oPerson", "T1", "11", callback.Delivered)
		},
		"redriven": func(w *world) (*message, callback.Push) {
			m := unknown(w, "1")
			state, err := w.ledger.RedriveState(w.t.Context(), app, "1")
			if err != nil {
				w.t.Fatal(err)
			}
			if ok, err := w.ledger.BeginRedrive(w.t.Context(), m.ref(), state); err != nil || !ok {
				w.t.Fatal(ok, err)
			}
			w.reopen(m)
			w.settle(m, tasks.OutcomeUnknown, "")
			return m, push("oPerson", "T1", "11", callback.Delivered)
		},
		"another was redriven": func(w *world) (*message, callback.Push) {
			m := unknown(w, "2")
			state, err := w.ledger.RedriveState(w.t.Context(), app, "2")
			if err != nil {
				w.t.Fatal(err)
			}
			if ok, err := w.ledger.BeginRedrive(w.t.Context(), m.ref(), state); err != nil || !ok {
				w.t.Fatal(ok, err)
			}
			w.reopen(m)
			w.settle(m, tasks.OutcomeAccepted, "22") // of the second send; 11 may be that of the first
			return unknown(w, "1"), push("oPerson", "T1", "11", callback.Delivered)
		},
		"another was sent after it, says a clock that is ahead": func(w *world) (*message, callback.Push) {
			began := time.Now()
			w.mini.SetTime(began.Add(-time.Minute))
			m := unknown(w, "1")
			w.mini.SetTime(began.Add(10 * time.Second))
			unknown(w, "2")
			return m, push("oPerson", "T1", "11", callback.Delivered)
		},
	} {
		t.Run(name, func(t *testing.T) {
			mini, rdb := redistest.Mini(t)
			w := newWorld(t, rdb)
			w.mini = mini
			m, p := arrange(w)
			w.handle(p)
			for range 4 {
				w.later(50 * time.Second)
			}
			if got := w.record(m.ID); got.Outcome != tasks.OutcomeUnknown || got.Receipt != "" || len(w.outcomes) > 0 {
				t.Errorf("%+v", got)
			}
			for range 70 {
				w.later(time.Minute)
			}
			if w.early() != 0 {
				t.Errorf("%d receipts still wait", w.early())
			}
		})
	}
}

// TestUnknownLeftWithoutIndex: without the index of openids no outcome is resolved.
func TestUnknownLeftWithoutIndex(t *testing.T) {
	_, rdb := redistest.Mini(t)
	w := newWorld(t, rdb, func(p *ledger.Policy) { p.IndexOpenIDs = false })
	m := unknown(w, "1")
	w.handle(push("oPerson", "T1", "11", callback.Delivered))
	w.later(time.Minute)
	if got := w.record(m.ID); got.Outcome != tasks.OutcomeUnknown {
		t.Errorf("%+v", got)
	}
}

// unknown sends a message to oPerson from T1 whose outcome is unknown.
func unknown(w *world, id string) *message {
	w.t.Helper()
	m := newMessage(id, "oPerson")
	w.open(m)
	w.settle(m, tasks.OutcomeUnknown, "")
	return m
}
