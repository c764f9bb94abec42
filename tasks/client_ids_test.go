package tasks_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/asynqwire"
	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/tasks"
)

// link returns a task of another type than message.
func link(id string) tasks.Envelope {
	return tasks.Envelope{Type: tasks.TypeURLLink, App: clientApp, ID: id, Body: []byte(`{"path":"pages/index/index"}`)}
}

// submitEachWay enqueues a task with each of the four methods.
func submitEachWay(t *testing.T, client *tasks.Client, e tasks.Envelope) map[string]tasks.SubmitResult {
	t.Helper()
	made := func() *asynq.Task {
		task, err := tasks.NewTask(e)
		if err != nil {
			t.Fatal(err)
		}
		return task
	}
	one, oneErr := client.Submit(t.Context(), e)
	two, twoErr := client.Enqueue(t.Context(), made())
	return map[string]tasks.SubmitResult{
		"Submit": {Receipt: one, Err: oneErr}, "Enqueue": {Receipt: two, Err: twoErr},
		"SubmitMany":  client.SubmitMany(t.Context(), []tasks.Envelope{e, message("beside")})[0],
		"EnqueueMany": client.EnqueueMany(t.Context(), []*asynq.Task{made()})[0],
	}
}

// stages bring a waiting task into each state in which Redis knows its id.
var stages = []struct {
	name    string
	advance func(t *testing.T, rdb redis.UniversalClient, ref ledger.Ref)
}{
	{"waiting", func(*testing.T, redis.UniversalClient, ledger.Ref) {}},
	{"marked, and its copy is gone", func(t *testing.T, rdb redis.UniversalClient, ref ledger.Ref) {
		if err := asynq.NewInspectorFromRedisClient(rdb).DeleteTask(subscribeQueue, clientApp+":"+ref.ID); err != nil {
			t.Fatal(err)
		}
	}},
	{"canceled", func(t *testing.T, rdb redis.UniversalClient, ref ledger.Ref) {
		if _, err := ledger.New(rdb, ledger.Policy{}).Cancel(t.Context(), ref.App, []string{ref.ID}); err != nil {
			t.Fatal(err)
		}
	}},
	{"sending", func(t *testing.T, rdb redis.UniversalClient, ref ledger.Ref) { openTask(t, rdb, ref) }},
	{"done", func(t *testing.T, rdb redis.UniversalClient, ref ledger.Ref) {
		openTask(t, rdb, ref)
		settleTask(t, rdb, ref, tasks.OutcomeAccepted)
	}},
	{"done without a run", func(t *testing.T, rdb redis.UniversalClient, ref ledger.Ref) {
		settleTask(t, rdb, ref, tasks.OutcomeExpired)
	}},
	{"redriven", func(t *testing.T, rdb redis.UniversalClient, ref ledger.Ref) {
		openTask(t, rdb, ref)
		settleTask(t, rdb, ref, tasks.OutcomeFailed)
		l := ledger.New(rdb, ledger.Policy{})
		e, err := l.RedriveState(t.Context(), ref.App, ref.ID)
		if err != nil {
			t.Fatal(err)
		}
		if done, err := l.BeginRedrive(t.Context(), ref, e); err != nil || !done {
			t.Fatalf("put back: %v, %v", done, err)
		}
	}},
}

const subscribeQueue = clientApp + ":" + tasks.TypeSubscribe

func openTask(t *testing.T, rdb redis.UniversalClient, ref ledger.Ref) {
	t.Helper()
	l := ledger.New(rdb, ledger.Policy{DeadAfter: time.Minute, LostLimit: 3})
	if o, err := l.Open(t.Context(), ref, ledger.OpenRequest{Runner: "r", Queue: subscribeQueue, Marked: true}); err != nil || o.Admission != ledger.Proceed {
		t.Fatalf("opened %+v, %v", o, err)
	}
}

func settleTask(t *testing.T, rdb redis.UniversalClient, ref ledger.Ref, outcome tasks.Outcome) {
	t.Helper()
	l := ledger.New(rdb, ledger.Policy{Retention: time.Hour, StreamMax: 100})
	s, err := l.Settle(t.Context(), ref, ledger.SettleRequest{
		Outcome: string(outcome), Queue: subscribeQueue, Content: ledger.TaskContent{Payload: []byte(`{}`)},
		Result: fmt.Appendf(nil, `{"id":%q,"app":%q,"outcome":%q}`, ref.ID, ref.App, outcome),
	})
	if err != nil || !s.Written {
		t.Fatalf("settled %+v, %v", s, err)
	}
}

// TestAnIDOfAnotherType: with an id of another type, each method returns ErrIDInUse and
// enqueues nothing, in every state of the first task.
func TestAnIDOfAnotherType(t *testing.T) {
	for _, stage := range stages {
		t.Run(stage.name, func(t *testing.T) {
			redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
				client := tasks.NewClient(rdb)
				if _, err := client.Submit(t.Context(), message("one")); err != nil {
					t.Fatal(err)
				}
				stage.advance(t, rdb, ledger.Ref{App: clientApp, ID: "one"})
				for way, answer := range submitEachWay(t, client, link("one")) {
					if !errors.Is(answer.Err, tasks.ErrIDInUse) || answer.Receipt != (tasks.Receipt{}) {
						t.Errorf("%s: %+v, %v", way, answer.Receipt, answer.Err)
					} else if !strings.Contains(answer.Err.Error(), "one") || !strings.Contains(answer.Err.Error(), tasks.TypeSubscribe) {
						t.Errorf("%s: the error does not name the id and the type that has it: %v", way, answer.Err)
					}
				}
				if copies := rdb.Keys(t.Context(), asynqwire.Key(clientApp+":"+tasks.TypeURLLink, "*")).Val(); len(copies) > 0 {
					t.Errorf("enqueued nevertheless: %v", copies)
				}
				if answer := client.SubmitMany(t.Context(), []tasks.Envelope{message("beside")})[0]; !answer.Receipt.Already {
					t.Errorf("the other task of the call: %+v", answer)
				}
			})
		})
	}
}

// TestAnotherBody: the receipt reports Differs in every state of the task.
func TestAnotherBody(t *testing.T) {
	same := message("one")
	same.Body = []byte(`{ "data" : {"thing1":{"value":"\u8ba2单已发货"}}, "template_id":"T1", "touser":"oAbc" }`)
	same.Priority, same.Batch, same.NotAfter = tasks.Bulk, "other", time.Now().Add(time.Hour)
	other := message("one")
	other.Body = []byte(`{"touser":"oAbc","template_id":"T1","data":{"thing1":{"value":"订单已签收"}}}`)
	for _, stage := range stages {
		if strings.Contains(stage.name, "copy is gone") {
			continue // see TestSecondBodyReplacesAMarkedOne
		}
		t.Run(stage.name, func(t *testing.T) {
			redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
				client := tasks.NewClient(rdb)
				if r, err := client.Submit(t.Context(), message("one")); err != nil || r.Differs || r.Already {
					t.Fatalf("%+v, %v", r, err)
				}
				stage.advance(t, rdb, ledger.Ref{App: clientApp, ID: "one"})
				if stage.name == "redriven" { // the redrive has not reached asynq; this call completes it
					if _, err := client.Submit(t.Context(), message("one")); err != nil {
						t.Fatal(err)
					}
				}
				for way, answer := range submitEachWay(t, client, same) {
					if answer.Err != nil || !answer.Receipt.Already || answer.Receipt.Differs {
						t.Errorf("%s, the same: %+v, %v", way, answer.Receipt, answer.Err)
					}
				}
				for way, answer := range submitEachWay(t, client, other) {
					if answer.Err != nil || !answer.Receipt.Already || !answer.Receipt.Differs {
						t.Errorf("%s, another one: %+v, %v", way, answer.Receipt, answer.Err)
					}
				}
			})
		})
	}
}

// TestAnotherBodyInOneCall: the first of two equal ids is new, and the second differs.
func TestAnotherBodyInOneCall(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		other := message("one")
		other.Body = []byte(`{"touser":"oAbc","template_id":"T2","data":{"thing1":{"value":"订单已发货"}}}`)
		for i, answer := range tasks.NewClient(rdb).SubmitMany(t.Context(), []tasks.Envelope{message("one"), other, message("one"), link("one")}) {
			if i == 3 {
				if !errors.Is(answer.Err, tasks.ErrIDInUse) {
					t.Errorf("%+v", answer)
				}
			} else if r := answer.Receipt; answer.Err != nil || r.Already != (i > 0) || r.Differs != (i == 1) {
				t.Errorf("%d: %+v", i, answer)
			}
		}
	})
}

// TestSecondBodyReplacesAMarkedOne: the first call marked the id and did not enqueue the task.
// The body of the second call is sent, and later bodies are compared with it.
func TestSecondBodyReplacesAMarkedOne(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		client := tasks.NewClient(rdb)
		for _, scheduled := range []bool{false, true} {
			first := message(fmt.Sprint("scheduled-", scheduled))
			if scheduled {
				first.ProcessAt = time.Now().Add(time.Hour)
			}
			if _, err := client.Submit(t.Context(), first); err != nil {
				t.Fatal(err)
			}
			if err := asynq.NewInspectorFromRedisClient(rdb).DeleteTask(subscribeQueue, first.TaskID()); err != nil {
				t.Fatal(err)
			}
			second := first
			second.Body = []byte(`{"touser":"oAbc","template_id":"T1","data":{"thing1":{"value":"订单已签收"}}}`)
			for i, want := range []struct {
				tasks.Envelope
				already, differs bool
			}{{second, false, false}, {second, true, false}, {first, true, true}, {second, true, false}} {
				if r, err := client.Submit(t.Context(), want.Envelope); err != nil || r.Already != want.already || r.Differs != want.differs {
					t.Errorf("%d: %+v, %v", i, r, err)
				}
			}
			if r, err := client.Result(t.Context(), clientApp, first.ID); err != nil || (r.State == tasks.StateScheduled) != scheduled || r.EnqueuedAt.IsZero() {
				t.Errorf("%+v, %v", r, err)
			}
		}
	})
}

// TestMarkWithoutADigest: Differs is false for a task without a digest, which an older version
// or a plain asynq client enqueued.
func TestMarkWithoutADigest(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		client := tasks.NewClient(rdb)
		if _, err := client.Submit(t.Context(), message("one")); err != nil {
			t.Fatal(err)
		}
		key := ledger.WaitingKey(clientApp, "one")
		mark, _, found := strings.Cut(rdb.HGet(t.Context(), key, "one").Val(), " #")
		if !found {
			t.Fatalf("the mark %q has no digest", mark)
		}
		rdb.HSet(t.Context(), key, "one", mark)
		other := message("one")
		other.Body = []byte(`{"touser":"oAbc","template_id":"T2","data":{"thing1":{"value":"x"}}}`)
		for _, step := range []func(){func() {}, func() { openTask(t, rdb, ledger.Ref{App: clientApp, ID: "one"}) }} {
			step()
			if r, err := client.Submit(t.Context(), other); err != nil || !r.Already || r.Differs {
				t.Errorf("%+v, %v", r, err)
			}
		}
		if !errors.Is(func() error { _, err := client.Submit(t.Context(), link("one")); return err }(), tasks.ErrIDInUse) {
			t.Error("a task of another type is not refused")
		}
	})
}

// TestPlaintextIsAnotherType: an id of a scheme is not that of a scheme with plaintext, whose task would
// wait in a queue of which no lane takes it.
func TestPlaintextIsAnotherType(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		client := tasks.NewClient(rdb)
		scheme := func(id string, plaintext bool) tasks.Envelope {
			return tasks.Envelope{Type: tasks.TypeScheme, App: clientApp, ID: id, Plaintext: plaintext, Body: []byte(`{"jump_wxa":{"path":"pages/index/index","query":"a=1"}}`)}
		}
		for id, plaintext := range map[string]bool{"one": false, "two": true} {
			if _, err := client.Submit(t.Context(), scheme(id, plaintext)); err != nil {
				t.Fatal(err)
			}
			if _, err := client.Submit(t.Context(), scheme(id, !plaintext)); !errors.Is(err, tasks.ErrIDInUse) {
				t.Errorf("plaintext %v, then %v: %v", plaintext, !plaintext, err)
			}
			if again, err := client.Submit(t.Context(), scheme(id, plaintext)); err != nil || !again.Already || again.Differs {
				t.Errorf("the same again: %+v, %v", again, err)
			}
		}
	})
}
