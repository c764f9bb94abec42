package tasks_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/tasks"
)

// fixture has the client of a producer, the inspector of an operator, and the ledger of a worker.
type fixture struct {
	t         *testing.T
	rdb       redis.UniversalClient
	client    *tasks.Client
	inspector *tasks.Inspector
	ledger    *ledger.Ledger
	asynq     *asynq.Inspector
}

func newFixture(t *testing.T, rdb redis.UniversalClient) fixture {
	policy := ledger.Policy{Retention: time.Hour, StreamMax: 10_000, DeadAfter: time.Minute, LostLimit: 3}
	return fixture{
		t, rdb, tasks.NewClient(rdb), tasks.NewInspector(rdb), ledger.New(rdb, policy), asynq.NewInspectorFromRedisClient(rdb),
	}
}

func (d fixture) submit(e tasks.Envelope) *asynq.TaskInfo {
	d.t.Helper()
	receipt, err := d.client.Submit(d.t.Context(), e)
	if err != nil {
		d.t.Fatal(err)
	}
	info, err := d.asynq.GetTaskInfo(receipt.Queue, clientApp+":"+e.ID)
	if err != nil {
		d.t.Fatal(err)
	}
	return info
}

// settle records an outcome, as a worker does.
func (d fixture) settle(info *asynq.TaskInfo, outcome tasks.Outcome, code int) {
	d.t.Helper()
	e, err := tasks.DecodePayload(info.Payload)
	if err != nil {
		d.t.Fatal(err)
	}
	record, err := d.ledger.Record(d.t.Context(), e.App, e.ID)
	if err != nil {
		d.t.Fatal(err)
	}
	_, err = d.ledger.Settle(d.t.Context(), ledger.Ref{App: e.App, ID: e.ID, Batch: e.Batch}, ledger.SettleRequest{
		Outcome: string(outcome), Queue: info.Queue, Generation: record.Generation,
		Result: fmt.Appendf(nil, `{"id":%q,"app":%q,"type":%q,"batch":%q,"outcome":%q,"errcode":%d,"generation":%d,"finished_at":%q}`,
			e.ID, e.App, e.Type, e.Batch, outcome, code, record.Generation, time.Now().Format(time.RFC3339Nano)),
		Content: ledger.TaskContent{Payload: info.Payload, Headers: info.Headers},
	})
	if err != nil {
		d.t.Fatal(err)
	}
}

// end enqueues a task, records its outcome, and deletes or archives it in asynq.
func (d fixture) end(e tasks.Envelope, outcome tasks.Outcome, code int) *asynq.TaskInfo {
	d.t.Helper()
	info := d.submit(e)
	d.settle(info, outcome, code)
	remove := d.asynq.DeleteTask
	if outcome == tasks.OutcomeFailed || outcome == tasks.OutcomeUnknown {
		remove = d.asynq.ArchiveTask
	}
	if err := remove(info.Queue, info.ID); err != nil {
		d.t.Fatal(err)
	}
	return info
}

func (d fixture) redrive(id string, want tasks.Redrive) tasks.RedriveResult {
	d.t.Helper()
	done, err := d.inspector.Redrive(d.t.Context(), clientApp, id, want)
	if err != nil {
		d.t.Fatal(err)
	}
	return done
}

// isPending reports whether the task is pending in asynq, unchanged since it was enqueued.
func (d fixture) isPending(id string, first *asynq.TaskInfo) bool {
	d.t.Helper()
	info, err := d.asynq.GetTaskInfo(first.Queue, clientApp+":"+id)
	if err != nil {
		return false
	}
	return info.State == asynq.TaskStatePending && string(info.Payload) == string(first.Payload) && info.Type == first.Type &&
		maps.Equal(info.Headers, first.Headers) && info.MaxRetry == first.MaxRetry && info.Timeout == first.Timeout
}

func redriveAll() tasks.Redrive { return tasks.Redrive{Outcomes: tasks.Redrivable()} }

// TestRedrive redrives tasks that asynq has deleted or archived: once, and unchanged.
func TestRedrive(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		d := newFixture(t, rdb)
		for _, outcome := range tasks.Redrivable() {
			id := string(outcome)
			first := d.end(message(id), outcome, 40037)
			dry := redriveAll()
			dry.DryRun = true
			if done := d.redrive(id, dry); done != tasks.RedriveDone || d.isPending(id, first) {
				t.Errorf("%s: a dry run: %s", id, done)
			}
			if done := d.redrive(id, redriveAll()); done != tasks.RedriveDone || !d.isPending(id, first) {
				t.Errorf("%s: %s", id, done)
			}
			if done := d.redrive(id, redriveAll()); done != tasks.RedriveUnmatched {
				t.Errorf("%s again: %s", id, done)
			}
			if r, err := d.client.Result(t.Context(), clientApp, id); err != nil || r.State != tasks.StateWaiting || r.Generation != 1 {
				t.Errorf("%s: %+v, %v", id, r, err)
			}
			past, err := d.inspector.History(t.Context(), clientApp, id)
			if err != nil || len(past) != 1 || past[0].Outcome != outcome || past[0].ErrCode != 40037 {
				t.Errorf("%s: history %+v, %v", id, past, err)
			}
		}
		if n := pending(t, rdb, tasks.Urgent); n != 3 {
			t.Errorf("%d tasks wait", n)
		}
		if finished, busy, err := d.inspector.FinishRedrives(t.Context(), clientApp, false); finished != 0 || busy != nil || err != nil {
			t.Errorf("left over: %d, %v, %v", finished, busy, err)
		}
	})
}

// TestRedriveSkips tasks that do not match, and tasks that cannot be redriven.
func TestRedriveSkips(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		d, begun := newFixture(t, rdb), time.Now()
		inBatch := message("in-batch")
		inBatch.Batch = "spring"
		d.end(inBatch, tasks.OutcomeRejected, 47003)
		d.end(message("accepted"), tasks.OutcomeAccepted, 0)
		d.submit(message("waits"))
		late := message("late")
		late.NotAfter = time.Now().Add(-time.Second)
		d.end(late, tasks.OutcomeFailed, 0)
		foreign := d.submit(message("bare"))
		foreign.Payload, foreign.Headers = slices.Clone(foreign.Payload), nil
		d.settle(foreign, tasks.OutcomeRejected, 0)
		rdb.HDel(t.Context(), ledger.TaskKey(clientApp, "bare"), "payload", "headers")
		for _, c := range []struct {
			id   string
			want tasks.Redrive
			done tasks.RedriveResult
		}{
			{"in-batch", tasks.Redrive{Outcomes: []tasks.Outcome{tasks.OutcomeUnknown}}, tasks.RedriveUnmatched},
			{"in-batch", tasks.Redrive{Outcomes: tasks.Redrivable(), ErrCodes: []int{40037}}, tasks.RedriveUnmatched},
			{"in-batch", tasks.Redrive{Outcomes: tasks.Redrivable(), Batch: "autumn"}, tasks.RedriveUnmatched},
			{"in-batch", tasks.Redrive{Outcomes: tasks.Redrivable(), Since: time.Now().Add(time.Hour)}, tasks.RedriveUnmatched},
			{"in-batch", tasks.Redrive{Outcomes: tasks.Redrivable(), Until: begun}, tasks.RedriveUnmatched},
			{"in-batch", tasks.Redrive{Outcomes: tasks.Redrivable(), Types: []string{tasks.TypeTemplate}}, tasks.RedriveUnmatched},
			{"accepted", redriveAll(), tasks.RedriveUnmatched},
			{"waits", redriveAll(), tasks.RedriveUnmatched},
			{"nobody", redriveAll(), tasks.RedriveUnmatched},
			{"late", redriveAll(), tasks.RedriveExpired},
			{"bare", redriveAll(), tasks.RedriveNoPayload},
			{"in-batch", tasks.Redrive{
				Outcomes: tasks.Redrivable(), Types: []string{tasks.TypeSubscribe}, ErrCodes: []int{47003}, Batch: "spring",
				Since: begun, Until: time.Now().Add(time.Hour),
			}, tasks.RedriveDone},
		} {
			if done := d.redrive(c.id, c.want); done != c.done {
				t.Errorf("%s with %+v: %s, want %s", c.id, c.want, done, c.done)
			}
		}
		for _, want := range []tasks.Redrive{{}, {Outcomes: []tasks.Outcome{tasks.OutcomeAccepted}}} {
			if _, err := d.inspector.Redrive(t.Context(), clientApp, "in-batch", want); err == nil {
				t.Errorf("%+v is accepted", want)
			}
			for _, err := range d.inspector.RedriveCandidates(t.Context(), clientApp, want) {
				if err == nil {
					t.Errorf("candidates of %+v", want)
				}
			}
		}
	})
}

// failing is a hook that fails commands whose arguments contain pattern.
type failing struct{ pattern atomic.Pointer[string] }

func (f *failing) DialHook(next redis.DialHook) redis.DialHook { return next }

func (f *failing) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (f *failing) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if part := f.pattern.Load(); part != nil && strings.Contains(fmt.Sprintln(cmd.Args()...), *part) {
			err := errors.New("the process died")
			cmd.SetErr(err)
			return err
		}
		return next(ctx, cmd)
	}
}

// TestInterruptedRedriveIsFinished: the process dies after it has put the task back in the
// ledger: before asynq has the task, or before the redrive is marked as complete.
func TestInterruptedRedriveIsFinished(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		d, f := newFixture(t, rdb), &failing{}
		rdb.AddHook(f)
		ways := map[string]func(id string) error{
			"repeated": func(id string) error {
				if done := d.redrive(id, redriveAll()); done != tasks.RedriveDone {
					return fmt.Errorf("result %s", done)
				}
				return nil
			},
			"finished": func(string) error {
				other := tasks.NewInspector(rdb)
				if n, _, err := other.FinishRedrives(t.Context(), clientApp, true); n != 1 || err != nil {
					return fmt.Errorf("a dry run counts %d, %w", n, err)
				}
				if n, _, err := other.FinishRedrives(t.Context(), clientApp, false); n != 1 || err != nil {
					return fmt.Errorf("it counts %d, %w", n, err)
				}
				return nil
			},
			"enqueued": func(id string) error {
				_, err := d.client.Submit(t.Context(), message(id)) // the producer repeats its call
				return err
			},
		}
		for at, part := range map[string]string{"before": "asynq:{", "after": "redrives"} {
			for how, finish := range ways {
				id := at + "-" + how
				first := d.end(message(id), tasks.OutcomeUnknown, 0)
				if at == "after" { // the script of BeginRedrive has this key too
					part = clientApp + "}:redrives " + id + " 1"
				}
				f.pattern.Store(&part)
				if _, err := d.inspector.Redrive(t.Context(), clientApp, id, redriveAll()); err == nil {
					t.Fatalf("%s: no error", id)
				}
				f.pattern.Store(nil)
				if r, err := d.client.Result(t.Context(), clientApp, id); err != nil || r.State != tasks.StateWaiting || r.Generation != 1 {
					t.Errorf("%s: %+v, %v", id, r, err)
				}
				if err := finish(id); err != nil {
					t.Errorf("%s: %v", id, err)
				}
				info, err := d.asynq.GetTaskInfo(first.Queue, clientApp+":"+id)
				if err != nil || info.State != asynq.TaskStatePending || string(info.Payload) != string(first.Payload) {
					t.Errorf("%s: asynq has %+v, %v", id, info, err)
				}
				if _, _, err := d.inspector.FinishRedrives(t.Context(), clientApp, false); err != nil {
					t.Fatal(err)
				}
				if n, _, err := d.inspector.FinishRedrives(t.Context(), clientApp, false); n != 0 || err != nil {
					t.Errorf("%s: still under way: %d, %v", id, n, err)
				}
				if r, err := d.client.Result(t.Context(), clientApp, id); err != nil || r.Generation != 1 {
					t.Errorf("%s: put back twice: %+v, %v", id, r, err)
				}
			}
		}
		if n := pending(t, rdb, tasks.Urgent); n != 6 {
			t.Errorf("%d tasks wait", n)
		}
	})
}

// TestRedriveWaitsForTheEarlierRun: the earlier run has recorded the outcome, but asynq still
// has its task, whose id the redrive needs.
func TestRedriveWaitsForTheEarlierRun(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		d := newFixture(t, rdb)
		info := d.submit(message("one"))
		settled, release, second := make(chan bool), make(chan bool), make(chan bool)
		runs := 0
		server := asynq.NewServerFromRedisClient(rdb, asynq.Config{
			Concurrency: 1, Queues: map[string]int{info.Queue: 1}, TaskCheckInterval: 5 * time.Millisecond, LogLevel: asynq.FatalLevel,
		})
		err := server.Start(asynq.HandlerFunc(func(context.Context, *asynq.Task) error {
			if runs++; runs == 1 {
				d.settle(info, tasks.OutcomeRejected, 40037) //nolint:contextcheck // the fixture uses the test's context
				close(settled)
				<-release
				return nil
			}
			close(second)
			return nil
		}))
		if err != nil {
			t.Fatal(err)
		}
		defer server.Shutdown()
		<-settled
		done := make(chan tasks.RedriveResult)
		go func() {
			r, err := d.inspector.Redrive(t.Context(), clientApp, "one", redriveAll())
			if err != nil {
				t.Error(err)
			}
			done <- r
		}()
		redistest.Until(t, 10*time.Second, "it is put back", func() bool {
			r, err := d.client.Result(t.Context(), clientApp, "one")
			return err == nil && r.Generation == 1
		})
		close(release)
		if r := <-done; r != tasks.RedriveDone {
			t.Errorf("redrive: %s", r)
		}
		select {
		case <-second:
		case <-time.After(10 * time.Second):
			t.Error("it did not run again")
		}
	})
}

// TestRedriveCandidates: each id once, from the stream since a time, or from a batch whose
// results are no longer in the stream.
func TestRedriveCandidates(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		d := newFixture(t, rdb)
		candidates := func(want tasks.Redrive) (ids []string) {
			for id, err := range d.inspector.RedriveCandidates(t.Context(), clientApp, want) {
				if err != nil {
					t.Fatal(err)
				}
				ids = append(ids, id)
			}
			slices.Sort(ids)
			return ids
		}
		grouped := message("grouped")
		grouped.Batch = "spring"
		d.end(grouped, tasks.OutcomeFailed, 0)
		d.end(message("accepted"), tasks.OutcomeAccepted, 0)
		first := d.end(message("twice"), tasks.OutcomeFailed, 0)
		d.redrive("twice", redriveAll())
		d.settle(first, tasks.OutcomeFailed, 0) // the second result of this id
		d.end(message("coded"), tasks.OutcomeRejected, 40037)
		if got := candidates(redriveAll()); !slices.Equal(got, []string{"coded", "grouped", "twice"}) {
			t.Errorf("all: %v", got)
		}
		if got := candidates(tasks.Redrive{Outcomes: tasks.Redrivable(), ErrCodes: []int{40037}}); !slices.Equal(got, []string{"coded"}) {
			t.Errorf("40037: %v", got)
		}
		if got := candidates(tasks.Redrive{Outcomes: tasks.Redrivable(), Since: time.Now().Add(time.Hour)}); len(got) != 0 {
			t.Errorf("since the future: %v", got)
		}
		rdb.XTrimMaxLen(t.Context(), ledger.StreamKey(clientApp), 0)
		batch := tasks.Redrive{Outcomes: tasks.Redrivable(), Batch: "spring"}
		if got := candidates(batch); !slices.Equal(got, []string{"grouped"}) {
			t.Errorf("the batch: %v", got)
		}
		batch.Batch = "none"
		if got := candidates(batch); len(got) != 0 {
			t.Errorf("no batch: %v", got)
		}
	})
}

func TestCancelCounts(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		d := newFixture(t, rdb)
		d.submit(message("waits"))
		d.end(message("ended"), tasks.OutcomeAccepted, 0)
		d.submit(message("sending"))
		opening := ledger.OpenRequest{Runner: "r", Queue: message("").Queue(), Marked: true}
		if _, err := d.ledger.Open(t.Context(), ledger.Ref{App: clientApp, ID: "sending"}, opening); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			n, err := d.client.Cancel(t.Context(), clientApp, "waits", "ended", "sending", "nobody")
			if want := (tasks.CancelCounts{Canceled: 1, Sending: 1, Done: 1, Missing: 1}); err != nil || n != want {
				t.Errorf("%+v, %v", n, err)
			}
		}
	})
}
