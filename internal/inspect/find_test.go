package inspect_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/hold"
	"github.com/wxcourier/wxcourier/internal/inspect"
	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/internal/resultlog"
	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/tasks"
)

func newReader(rdb redis.UniversalClient) *inspect.Reader {
	return inspect.NewReader(rdb, ratelimit.NewLimiter(rdb, ratelimit.DefaultConfig(), func(string) map[string]ratelimit.Limit { return nil }), hold.NewStore(rdb))
}

// message is a task for a receiver.
func message(app, id, openid string) tasks.Envelope {
	return tasks.Envelope{App: app, Type: tasks.TypeCustom, ID: id, Body: fmt.Appendf(nil, `{"touser":"%s","msgtype":"text","text":{"content":"secret text"}}`, openid)}
}

// end runs a task and settles it with a result.
func end(t *testing.T, rdb redis.UniversalClient, r tasks.Result) {
	t.Helper()
	l, ref := ledger.New(rdb, ledger.Policy{Retention: time.Hour, DeadAfter: time.Minute, LostLimit: 3}), ledger.Ref{App: r.App, ID: r.ID, Batch: r.Batch}
	queue := tasks.QueueName(r.App, r.Type, tasks.Urgent)
	o, err := l.Open(t.Context(), ref, ledger.OpenRequest{Runner: "r", Queue: queue})
	if err == nil && o.Admission == ledger.Proceed {
		r.State = tasks.StateDone
		_, err = l.Settle(t.Context(), ref, ledger.SettleRequest{Outcome: string(r.Outcome), Result: r.Encode(), Queue: queue})
	}
	if err != nil || o.Admission != ledger.Proceed {
		t.Fatal(o, err)
	}
}

func found(all inspect.FoundTasks) (texts []string) {
	for _, f := range all.Items {
		texts = append(texts, f.App[16:]+" "+f.ID+" "+string(f.Place)+" "+string(f.Outcome))
	}
	return texts
}

const (
	findA = "wx00000000000000aa"
	findB = "wx00000000000000bb"
)

// TestFind: one search finds tasks in every state by their id, receiver, rid and msgid.
func TestFind(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		ctx, client, reader, apps := t.Context(), tasks.NewClient(rdb), newReader(rdb), []string{findB, findA, findA}
		later := message(findA, "later", "oPerson")
		later.ProcessAt = time.Now().Add(time.Hour)
		refused := message(findA, "order-1", "oPerson")
		refused.Batch = "spring"
		for _, m := range client.SubmitMany(ctx, []tasks.Envelope{
			refused, message(findA, "waits", "oPerson"), later, message(findB, "order-1", "oOther"), message(findA, "done", "oOther"),
			{App: findA, Type: tasks.TypeTextCheck, ID: "check", Body: json.RawMessage(`{"content":"secret text","version":2,"scene":1,"openid":"oPerson"}`)},
		}) {
			if m.Err != nil {
				t.Fatal(m.Err)
			}
		}
		plain, err := tasks.NewTask(message(findA, "plain", "oPerson"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := asynq.NewClientFromRedisClient(rdb).Enqueue(plain); err != nil {
			t.Fatal(err)
		}
		end(t, rdb, tasks.Result{App: findA, ID: "order-1", Batch: "spring", Type: tasks.TypeCustom, Outcome: tasks.OutcomeRefused, ErrCode: 45015, RID: "rid-1", ErrMsg: "rid-2"})
		end(t, rdb, tasks.Result{App: findA, ID: "done", Type: tasks.TypeCustom, Outcome: tasks.OutcomeAccepted, RID: "rid-2", MsgID: "3395159288267931652"})

		for _, tt := range []struct {
			name string
			q    inspect.FindQuery
			want []string
		}{
			{"id", inspect.FindQuery{ID: "waits"}, []string{"aa waits waiting "}},
			{"id of two apps", inspect.FindQuery{ID: "order-1"}, []string{"bb order-1 waiting ", "aa order-1 done refused"}},
			{"id of a plain client", inspect.FindQuery{ID: "plain"}, []string{"aa plain waiting "}},
			{"unknown id", inspect.FindQuery{ID: "unknown"}, nil},
			{"openid", inspect.FindQuery{OpenID: "oPerson"}, []string{"aa check waiting ", "aa later scheduled ", "aa waits waiting ", "aa order-1 done refused"}},
			{"openid of another", inspect.FindQuery{OpenID: "oOther"}, []string{"aa done done accepted", "bb order-1 waiting "}},
			{"hash of an openid", inspect.FindQuery{Person: ledger.PersonOf("oOther")}, []string{"aa done done accepted", "bb order-1 waiting "}},
			{"unknown openid", inspect.FindQuery{OpenID: "oNobody"}, nil},
			{"rid", inspect.FindQuery{RID: "rid-1"}, []string{"aa order-1 done refused"}},
			{"rid that is another field, too", inspect.FindQuery{RID: "rid-2"}, []string{"aa done done accepted"}},
			{"msgid", inspect.FindQuery{MsgID: "3395159288267931652"}, []string{"aa done done accepted"}},
			{"a part of a msgid", inspect.FindQuery{MsgID: "33951592882679"}, nil},
			{"a msgid with a quote", inspect.FindQuery{MsgID: `"3395159288267931652`}, nil},
		} {
			tt.q.Apps = apps
			got, err := reader.Find(ctx, tt.q)
			if texts := found(got); err != nil || tt.name != "id of two apps" && tt.name != "openid" && !slices.Equal(texts, tt.want) ||
				!slices.Equal(slices.Sorted(slices.Values(texts)), slices.Sorted(slices.Values(tt.want))) || got.Cursor != "" {
				t.Errorf("%s: found %q, %v; want %q", tt.name, texts, err, tt.want)
			}
			if text, err := json.Marshal(got); err != nil || strings.Contains(string(text), "secret text") || strings.Contains(string(text), "oPerson") {
				t.Errorf("%s: the answer is %s, %v", tt.name, text, err)
			}
		}
		for _, bad := range []inspect.FindQuery{{}, {ID: "a", RID: "b"}, {OpenID: "a", MsgID: "b"}} {
			if _, err := reader.Find(ctx, bad); err == nil {
				t.Errorf("%+v is accepted", bad)
			}
		}
	})
}

// TestFindPages: the tasks of a receiver come in pages; one whose record has expired is left out.
func TestFindPages(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		ctx, client, reader := t.Context(), tasks.NewClient(rdb), newReader(rdb)
		var want []string
		for i := range 23 {
			id := fmt.Sprintf("order-%02d", i)
			if _, err := client.Submit(ctx, message(findA, id, "oPerson")); err != nil {
				t.Fatal(err)
			}
			if i%4 == 0 {
				rdb.Del(ctx, ledger.WaitingKey(findA, id))
				continue
			}
			want = append(want, id)
		}
		slices.Reverse(want)
		q := inspect.FindQuery{Apps: []string{findA, findB}, OpenID: "oPerson", Limit: 5}
		var got []string
		for {
			page, err := reader.Find(ctx, q)
			if err != nil || len(page.Items) > q.Limit {
				t.Fatal(len(page.Items), err)
			}
			for _, f := range page.Items {
				got = append(got, f.ID)
			}
			if q.Cursor = page.Cursor; q.Cursor == "" {
				break
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		for _, q := range []inspect.FindQuery{{OpenID: "oPerson", Cursor: "x"}, {RID: "1", Cursor: "x"}, {OpenID: "oPerson", Cursor: "1.x." + findA}} {
			q.Apps = []string{findA}
			if _, err := reader.Find(ctx, q); !errors.Is(err, resultlog.ErrCursor) {
				t.Errorf("cursor %q: %v", q.Cursor, err)
			}
		}
	})
}

// TestRecentBatches: the batches have their outcomes, and the time of the last enqueue.
func TestRecentBatches(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		ctx, client, reader, began := t.Context(), tasks.NewClient(rdb), newReader(rdb), time.Now()
		for i, batch := range []string{"spring", "autumn", "spring"} {
			e := message(findA, fmt.Sprint(i), "oPerson")
			e.Batch = batch
			if _, err := client.Submit(ctx, e); err != nil {
				t.Fatal(err)
			}
		}
		end(t, rdb, tasks.Result{App: findA, ID: "1", Batch: "autumn", Type: tasks.TypeCustom, Outcome: tasks.OutcomeAccepted})
		got, err := reader.RecentBatches(ctx, []string{findB, findA, findA}, time.Time{}, 10)
		if err != nil || len(got) != 2 {
			t.Fatalf("got %+v, %v", got, err)
		}
		if b := got[0]; b.Batch.Batch != "spring" || b.Total != 2 || b.Open != 2 || b.SecondsLeft != -1 || b.LastEnqueued.Before(began.Add(-time.Minute)) || b.LastEnqueued.After(time.Now().Add(time.Minute)) {
			t.Errorf("the first is %+v", b)
		}
		if b := got[1]; b.Batch.Batch != "autumn" || b.Done != 1 || b.Outcomes[tasks.OutcomeAccepted] != 1 || b.SecondsLeft != 0 || !b.LastEnqueued.Before(got[0].LastEnqueued) {
			t.Errorf("the second is %+v", b)
		}
	})
}

// TestFailuresOfATask: the attempts that failed are shown while the task waits and after its end.
func TestFailuresOfATask(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		ctx, client, reader := t.Context(), tasks.NewClient(rdb), newReader(rdb)
		if _, err := client.Submit(ctx, message(findA, "1", "oPerson")); err != nil {
			t.Fatal(err)
		}
		l, ref := ledger.New(rdb, ledger.Policy{Retention: time.Hour, DeadAfter: time.Minute, LostLimit: 3}), ledger.Ref{App: findA, ID: "1"}
		for i := range 2 {
			if _, err := l.Open(ctx, ref, ledger.OpenRequest{Runner: "r"}); err != nil {
				t.Fatal(err)
			}
			err := l.Defer(ctx, ref, ledger.DeferRequest{
				Runner: "r", State: "retrying", NotAccepted: true, Wait: 5 * time.Second,
				Last: ledger.Answer{Code: -1, Class: "busy", Msg: "system error", RID: fmt.Sprint("rid-", i), At: time.Now()},
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		check := func() {
			t.Helper()
			task, err := reader.Task(ctx, findA, "1", nil)
			if err != nil || len(task.Failures) != 2 {
				t.Fatalf("failures %+v, %v", task.Failures, err)
			}
			for i, f := range task.Failures {
				if f.ErrCode != -1 || f.Class != "busy" || f.ErrMsg != "system error" || f.RID != fmt.Sprint("rid-", i) || f.Wait != 5*time.Second || f.WaitSeconds != 5 || time.Since(f.At) > time.Minute {
					t.Errorf("failure %d: %+v", i, f)
				}
			}
		}
		check()
		end(t, rdb, tasks.Result{App: findA, ID: "1", Type: tasks.TypeCustom, Outcome: tasks.OutcomeAccepted})
		check()
	})
}
