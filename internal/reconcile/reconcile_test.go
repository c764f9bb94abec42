package reconcile_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/internal/reconcile"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/tasks"
)

const (
	app       = "wx0123456789abcdef"
	queue     = app + ":send:subscribe"
	retention = time.Hour
)

// stage is a Redis with a producer, a ledger and an inspector.
type stage struct {
	t         *testing.T
	rdb       redis.UniversalClient
	client    *tasks.Client
	ledger    *ledger.Ledger
	inspector *asynq.Inspector
	ended     []tasks.Result
}

// onEach runs a test on miniredis, on Redis and on a cluster.
func onEach(t *testing.T, fn func(s *stage)) {
	on := func(t *testing.T, rdb redis.UniversalClient) {
		t.Helper()
		fn(&stage{
			t: t, rdb: rdb, client: tasks.NewClient(rdb), inspector: asynq.NewInspectorFromRedisClient(rdb),
			ledger: ledger.New(rdb, ledger.Policy{Retention: retention, StreamMax: 100, DeadAfter: time.Minute, LostLimit: 3}),
		})
	}
	redistest.Each(t, on)
	t.Run("cluster", func(t *testing.T) { on(t, redistest.StartCluster(t)) })
}

func (s *stage) config() reconcile.Config {
	return reconcile.Config{
		DeadAfter: time.Minute, Retention: retention, Repair: true,
		OnEnded: func(r tasks.Result) { s.ended = append(s.ended, r) },
	}
}

func (s *stage) pass(r *reconcile.Reconciler) reconcile.Report {
	s.t.Helper()
	report, err := r.Pass(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	return report
}

// repair makes the two passes that ending a task takes, and returns the report of the second.
func (s *stage) repair() reconcile.Report {
	s.t.Helper()
	r := reconcile.New(s.rdb, s.ledger, s.config())
	s.pass(r)
	return s.pass(r)
}

func envelope(id, batch string) tasks.Envelope {
	return tasks.Envelope{
		Type: tasks.TypeSubscribe, App: app, ID: id, Batch: batch,
		Body: []byte(`{"touser":"oPerson","template_id":"T1","data":{"thing1":{"value":"x"}}}`),
	}
}

func (s *stage) submit(id, batch string) tasks.Receipt {
	s.t.Helper()
	receipt, err := s.client.Submit(s.t.Context(), envelope(id, batch))
	if err != nil {
		s.t.Fatal(err)
	}
	return receipt
}

// deleteTask deletes a task as the asynq web UI does.
func (s *stage) deleteTask(id string) {
	s.t.Helper()
	if err := s.inspector.DeleteTask(queue, app+":"+id); err != nil {
		s.t.Fatal(err)
	}
}

func (s *stage) result(id string) tasks.Result { //nolint:unparam // clearer at the call
	s.t.Helper()
	r, err := s.client.Result(s.t.Context(), app, id)
	if err != nil {
		s.t.Fatalf("%s: %v", id, err)
	}
	return r
}

func (s *stage) pending() []string {
	s.t.Helper()
	infos, err := s.inspector.ListPendingTasks(queue)
	if err != nil {
		s.t.Fatal(err)
	}
	var ids []string
	for _, info := range infos {
		ids = append(ids, info.ID[len(app)+1:])
	}
	slices.Sort(ids)
	return ids
}

func TestDeletedTaskIsEnded(t *testing.T) {
	onEach(t, func(s *stage) {
		for _, id := range []string{"a", "b", "c"} {
			s.submit(id, "sale")
		}
		s.submit("alone", "")
		s.submit("other", "other-batch")
		s.deleteTask("b")
		s.deleteTask("alone")
		r := reconcile.New(s.rdb, s.ledger, s.config())
		if got := s.pass(r); got.Checked != 5 || got.Missing != 2 || got.Ended != 0 {
			s.t.Errorf("the first pass: %+v", got)
		}
		if got := s.pass(r); got.Missing != 2 || got.Ended != 2 || len(s.ended) != 2 {
			s.t.Errorf("the second pass: %+v, %d calls of Ended", got, len(s.ended))
		}
		for id, batch := range map[string]string{"b": "sale", "alone": ""} {
			got, err := s.client.Wait(s.t.Context(), app, id)
			if err != nil || got.Outcome != tasks.OutcomeCanceled || got.Reason != reconcile.Reason || got.Batch != batch ||
				got.Type != tasks.TypeSubscribe || got.EnqueuedAt.IsZero() || got.FinishedAt.IsZero() {
				s.t.Errorf("%s: %+v, %v", id, got, err)
			}
			if ttl := s.rdb.PTTL(s.t.Context(), ledger.TaskKey(app, id)).Val(); ttl <= 0 || ttl > retention {
				s.t.Errorf("%s is kept for %v", id, ttl)
			}
		}
		if counts, err := s.client.Batch(s.t.Context(), app, "sale"); err != nil || counts["total"] != 3 || counts["done"] != 1 || counts["canceled"] != 1 {
			s.t.Errorf("the batch: %v, %v", counts, err)
		}
		streamed := 0
		for r, err := range tasks.NewInspector(s.rdb).Results(s.t.Context(), app, "", false) {
			if streamed++; err != nil || r.Reason != reconcile.Reason {
				s.t.Errorf("streamed %+v, %v", r, err)
			}
		}
		if got := s.pending(); streamed != 2 || !slices.Equal(got, []string{"a", "c", "other"}) {
			s.t.Errorf("%d results, %v wait", streamed, got)
		}
		if got := s.pass(r); got.Checked != 3 || got.Missing != 0 {
			s.t.Errorf("a pass after it: %+v", got)
		}
	})
}

// TestBatchOfDeletedTasksEnds: a batch ends with its last task, even if that was deleted.
func TestBatchOfDeletedTasksEnds(t *testing.T) {
	onEach(t, func(s *stage) {
		const n = 130 // more than endingsPerPause
		for i := range n {
			s.submit(fmt.Sprint(i), "sale")
		}
		if _, err := s.inspector.DeleteAllPendingTasks(queue); err != nil {
			s.t.Fatal(err)
		}
		if got := s.repair(); got.Ended != n {
			s.t.Errorf("%+v", got)
		}
		counts, err := s.client.Batch(s.t.Context(), app, "sale")
		if err != nil || counts["done"] != n || counts["canceled"] != n {
			s.t.Errorf("the batch: %v, %v", counts, err)
		}
		if ttl := s.rdb.PTTL(s.t.Context(), ledger.BatchKey(app, "sale")).Val(); ttl <= 0 {
			s.t.Errorf("the batch is kept for %v", ttl)
		}
	})
}

// TestProducerRepeatsBetweenPasses: a task is not ended when its producer has marked the id again
// and not enqueued it yet.
func TestProducerRepeatsBetweenPasses(t *testing.T) {
	onEach(t, func(s *stage) {
		ctx := s.t.Context()
		s.submit("marked", "")
		s.submit("run", "")
		if _, err := s.ledger.Open(ctx, ledger.Ref{App: app, ID: "run"}, ledger.OpenRequest{Runner: "r-1", Queue: queue, Marked: true}); err != nil {
			s.t.Fatal(err)
		}
		if err := s.ledger.Defer(ctx, ledger.Ref{App: app, ID: "run"}, ledger.DeferRequest{Runner: "r-1", State: "retrying", NotAccepted: true}); err != nil {
			s.t.Fatal(err)
		}
		ids := []string{"marked", "run"}
		for _, id := range ids {
			s.deleteTask(id)
		}
		r := reconcile.New(s.rdb, s.ledger, s.config())
		if got := s.pass(r); got.Missing != 2 {
			s.t.Fatalf("the first pass: %+v", got)
		}
		for _, id := range ids { // the first step of Submit
			if c, err := s.ledger.Mark(ctx, ledger.Ref{App: app, ID: id}, queue, "waiting"); err != nil || c.Done {
				s.t.Fatalf("%+v, %v", c, err)
			}
		}
		if got := s.pass(r); got.Missing != 2 || got.Ended != 0 {
			s.t.Errorf("ended while the producer repeats it: %+v", got)
		}
		for _, id := range ids {
			s.submit(id, "")
		}
		if got := s.pass(r); got.Missing != 0 || got.Ended != 0 || !slices.Equal(s.pending(), ids) {
			s.t.Errorf("after it was enqueued: %+v", got)
		}
	})
}

// TestDeletedTaskCanBeRepeated: the producer may have died before it enqueued the task.
func TestDeletedTaskCanBeRepeated(t *testing.T) {
	onEach(t, func(s *stage) {
		s.submit("a", "sale")
		s.deleteTask("a")
		if got := s.repair(); got.Ended != 1 {
			s.t.Fatalf("%+v", got)
		}
		if receipt := s.submit("a", "sale"); receipt.Already || receipt.Done {
			s.t.Errorf("repeated: %+v", receipt)
		}
		if got := s.result("a"); got.State != tasks.StateWaiting || !slices.Equal(s.pending(), []string{"a"}) {
			s.t.Errorf("after the repetition: %+v", got)
		}
		if counts, err := s.client.Batch(s.t.Context(), app, "sale"); err != nil || counts["total"] != 2 || counts["done"] != 1 {
			s.t.Errorf("the batch: %v, %v", counts, err)
		}
		if receipt := s.submit("a", "sale"); !receipt.Already {
			s.t.Errorf("repeated again: %+v", receipt)
		}
	})
}

// TestCanceledTaskStaysCanceled: the id of a task that was canceled before it was deleted does
// not become free.
func TestCanceledTaskStaysCanceled(t *testing.T) {
	onEach(t, func(s *stage) {
		s.submit("a", "")
		if _, err := s.client.Cancel(s.t.Context(), app, "a"); err != nil {
			s.t.Fatal(err)
		}
		s.deleteTask("a")
		if got := s.repair(); got.Ended != 1 {
			s.t.Fatalf("%+v", got)
		}
		if receipt := s.submit("a", ""); !receipt.Done || len(s.pending()) != 0 {
			s.t.Errorf("repeated: %+v", receipt)
		}
	})
}

// TestTasksThatAreNotMissing: a young mark, a live run, a redrive in progress, a task that was
// archived by hand.
func TestTasksThatAreNotMissing(t *testing.T) {
	onEach(t, func(s *stage) {
		ctx := s.t.Context()
		s.submit("alive", "")
		if _, err := s.ledger.Open(ctx, ledger.Ref{App: app, ID: "alive"}, ledger.OpenRequest{Runner: "r-1", Queue: queue, Marked: true}); err != nil {
			s.t.Fatal(err)
		}
		s.deleteTask("alive")
		s.submit("redriven", "")
		if _, err := s.ledger.Settle(ctx, ledger.Ref{App: app, ID: "redriven"}, ledger.SettleRequest{
			Outcome: "failed", Result: []byte(`{}`), Queue: queue, Content: ledger.TaskContent{Payload: []byte(`{}`)},
		}); err != nil {
			s.t.Fatal(err)
		}
		s.deleteTask("redriven")
		ended, err := s.ledger.RedriveState(ctx, app, "redriven")
		if err != nil {
			s.t.Fatal(err)
		}
		if put, err := s.ledger.BeginRedrive(ctx, ledger.Ref{App: app, ID: "redriven"}, ended); err != nil || !put {
			s.t.Fatal(put, err)
		}
		s.submit("archived", "")
		if err := s.inspector.ArchiveTask(queue, app+":archived"); err != nil {
			s.t.Fatal(err)
		}
		if got := s.repair(); got.Missing != 0 || got.Ended != 0 {
			s.t.Errorf("%+v", got)
		}
		s.submit("young", "")
		s.deleteTask("young")
		config := s.config()
		config.MinAge = time.Minute
		r := reconcile.New(s.rdb, s.ledger, config)
		s.pass(r)
		if got := s.pass(r); got.Missing != 0 || got.Ended != 0 {
			s.t.Errorf("young: %+v", got)
		}
	})
}

// TestDeletedTaskInDoubtIsUnknown: a deleted task whose request may have been sent is not ended
// as canceled.
func TestDeletedTaskInDoubtIsUnknown(t *testing.T) {
	onEach(t, func(s *stage) {
		s.submit("a", "")
		if _, err := s.ledger.Open(s.t.Context(), ledger.Ref{App: app, ID: "a"}, ledger.OpenRequest{Runner: "dead-1", Queue: queue, Marked: true, Fenced: true}); err != nil {
			s.t.Fatal(err)
		}
		s.deleteTask("a")
		config := s.config()
		config.DeadAfter = 0
		r := reconcile.New(s.rdb, s.ledger, config)
		s.pass(r)
		s.pass(r)
		if got := s.result("a"); got.Outcome != tasks.OutcomeUnknown || got.Reason != reconcile.Reason || got.Attempts != 1 {
			s.t.Errorf("%+v", got)
		}
		if receipt := s.submit("a", ""); !receipt.Done {
			s.t.Errorf("repeated: %+v", receipt)
		}
	})
}

// TestPassWithoutRepairWritesNothing: without Repair a pass leaves all keys unchanged.
func TestPassWithoutRepairWritesNothing(t *testing.T) {
	onEach(t, func(s *stage) {
		s.submit("a", "b")
		s.deleteTask("a")
		before := s.dump()
		config := s.config()
		config.Repair = false
		r := reconcile.New(s.rdb, s.ledger, config)
		s.pass(r)
		if got := s.pass(r); got.Missing != 1 || got.Ended != 0 {
			s.t.Errorf("%+v", got)
		}
		if after := s.dump(); before != after {
			s.t.Errorf("before:\n%s\nafter:\n%s", before, after)
		}
	})
}

// dump returns the keys that a pass may change, as text.
func (s *stage) dump() string {
	var text string
	for _, key := range []string{ledger.WaitingKey(app, "a"), ledger.TaskKey(app, "a"), ledger.BatchKey(app, "b")} {
		text += fmt.Sprintln(key, s.rdb.HGetAll(s.t.Context(), key).Val())
	}
	return text + fmt.Sprintln(s.rdb.SMembers(s.t.Context(), "asynq:queues").Val())
}

// TestExpiredArchivedCopiesAreDeleted: copies are deleted after the retention if their task has
// no outcome: its record has expired, or it was archived by hand while it waited.
func TestExpiredArchivedCopiesAreDeleted(t *testing.T) {
	onEach(t, func(s *stage) {
		ctx := s.t.Context()
		plain := asynq.NewClientFromRedisClient(s.rdb)
		archive := func(queue, id string, ago time.Duration) {
			s.t.Helper()
			task := asynq.NewTask(tasks.TypeSubscribe, []byte(`{"touser":"oPerson"}`))
			if _, err := plain.Enqueue(task, asynq.Queue(queue), asynq.TaskID(id)); err != nil {
				s.t.Fatal(err)
			}
			if err := s.inspector.ArchiveTask(queue, id); err != nil {
				s.t.Fatal(err)
			}
			at := redis.Z{Score: float64(time.Now().Add(-ago).Unix()), Member: id}
			if err := s.rdb.ZAddXX(ctx, "asynq:{"+queue+"}:archived", at).Err(); err != nil {
				s.t.Fatal(err)
			}
		}
		const long = retention + time.Minute
		for i := range 250 { // more than a page
			archive(queue, fmt.Sprintf("%s:old-%d", app, i), long)
		}
		archive(queue, "an id of its own", long)
		archive(queue, app+":young", retention-time.Minute)
		archive("default", "of others", long)
		archive(queue, app+":record", long)
		if _, err := s.ledger.Settle(ctx, ledger.Ref{App: app, ID: "record"}, ledger.SettleRequest{Outcome: "failed", Result: []byte(`{}`), Queue: queue}); err != nil {
			s.t.Fatal(err)
		}
		archive(queue, app+":mark", long)
		if _, err := s.ledger.Mark(ctx, ledger.Ref{App: app, ID: "mark"}, queue, "waiting"); err != nil {
			s.t.Fatal(err)
		}
		archive(queue, app+":enqueued-again", long)
		if err := s.rdb.HSet(ctx, "asynq:{"+queue+"}:t:"+app+":enqueued-again", "state", "pending").Err(); err != nil {
			s.t.Fatal(err)
		}
		got := s.pass(reconcile.New(s.rdb, s.ledger, s.config()))
		if got.Archived != 253 || got.Deleted != 252 {
			s.t.Errorf("%+v", got)
		}
		left := s.rdb.ZRange(ctx, "asynq:{"+queue+"}:archived", 0, -1).Val()
		slices.Sort(left)
		if want := []string{app + ":enqueued-again", app + ":record", app + ":young"}; !slices.Equal(left, want) {
			s.t.Errorf("archived: %v, want %v", left, want)
		}
		if n := s.rdb.Exists(ctx, "asynq:{"+queue+"}:t:"+app+":old-7").Val(); n != 0 {
			s.t.Error("the payload of a copy was not deleted")
		}
		if n := s.rdb.Exists(ctx, "asynq:{default}:t:of others").Val(); n != 1 {
			s.t.Error("a task of a foreign queue was deleted")
		}
	})
}

// TestArchivedByHandIsEnded: a task that was archived in the web UI while it waited is ended when
// the retention has passed, and not before.
func TestArchivedByHandIsEnded(t *testing.T) {
	onEach(t, func(s *stage) {
		s.submit("a", "sale")
		s.submit("b", "sale")
		if err := s.inspector.ArchiveTask(queue, app+":a"); err != nil {
			s.t.Fatal(err)
		}
		age := func(d time.Duration) {
			at := redis.Z{Score: float64(time.Now().Add(-d).Unix()), Member: app + ":a"}
			if err := s.rdb.ZAddXX(s.t.Context(), "asynq:{"+queue+"}:archived", at).Err(); err != nil {
				s.t.Fatal(err)
			}
		}
		age(retention - time.Minute)
		if got := s.repair(); got.Missing != 0 || got.Deleted != 0 || s.result("a").Outcome != "" {
			s.t.Errorf("before the retention has passed: %+v", got)
		}
		age(retention + time.Minute)
		if got := s.repair(); got.Ended != 1 {
			s.t.Errorf("%+v", got)
		}
		if got := s.result("a"); got.Outcome != tasks.OutcomeCanceled || got.Reason != reconcile.Reason {
			s.t.Errorf("%+v", got)
		}
		if counts, err := s.client.Batch(s.t.Context(), app, "sale"); err != nil || counts["done"] != 1 || counts["canceled"] != 1 {
			s.t.Errorf("the batch: %v, %v", counts, err)
		}
		if receipt := s.submit("a", ""); receipt.Already || !slices.Equal(s.pending(), []string{"a", "b"}) {
			s.t.Errorf("enqueued again: %+v, %v wait", receipt, s.pending())
		}
	})
}

// TestCompletedTasksAreDeleted: completed tasks past their retention are deleted in queues that no
// server works on.
func TestCompletedTasksAreDeleted(t *testing.T) {
	onEach(t, func(s *stage) {
		ctx := s.t.Context()
		complete := func(queue, id string, left time.Duration) {
			s.t.Helper()
			key := "asynq:{" + queue + "}:"
			if err := s.rdb.SAdd(ctx, "asynq:queues", queue).Err(); err != nil {
				s.t.Fatal(err)
			}
			if err := s.rdb.HSet(ctx, key+"t:"+id, "msg", "", "state", "completed").Err(); err != nil {
				s.t.Fatal(err)
			}
			if err := s.rdb.ZAdd(ctx, key+"completed", redis.Z{Score: float64(time.Now().Add(left).Unix()), Member: id}).Err(); err != nil {
				s.t.Fatal(err)
			}
		}
		for i := range 250 {
			complete(queue, fmt.Sprintf("%s:%d", app, i), -time.Minute)
		}
		complete(queue, app+":young", time.Minute)
		complete("default", "of others", -time.Minute)
		keys := func() int64 { return s.rdb.ZCard(ctx, "asynq:{"+queue+"}:completed").Val() }
		config := s.config()
		config.Repair = false
		if s.pass(reconcile.New(s.rdb, s.ledger, config)); keys() != 251 {
			s.t.Errorf("%d left without repair", keys())
		}
		if s.pass(reconcile.New(s.rdb, s.ledger, s.config())); keys() != 1 {
			s.t.Errorf("%d left", keys())
		}
		if n := s.rdb.Exists(ctx, "asynq:{"+queue+"}:t:"+app+":7", "asynq:{"+queue+"}:t:"+app+":young").Val(); n != 1 {
			s.t.Errorf("%d of an old and a young task are left", n)
		}
		if n := s.rdb.ZCard(ctx, "asynq:{default}:completed").Val(); n != 1 {
			s.t.Error("a task of a foreign queue was deleted")
		}
	})
}

// TestDeletedQueueIsListedAgain: when a producer enqueues into a queue that was deleted, a pass
// makes the queue visible to asynq's tools again.
func TestDeletedQueueIsListedAgain(t *testing.T) {
	onEach(t, func(s *stage) {
		s.submit("a", "")
		s.deleteTask("a")
		if err := s.inspector.DeleteQueue(queue, false); err != nil {
			s.t.Fatal(err)
		}
		s.submit("b", "") // asynq's client remembers the queue
		if queues, err := s.inspector.Queues(); err != nil || slices.Contains(queues, queue) {
			s.t.Fatalf("asynq lists %v, %v: the test needs an unlisted queue", queues, err)
		}
		s.pass(reconcile.New(s.rdb, s.ledger, s.config()))
		if got := s.pending(); !slices.Equal(got, []string{"b"}) {
			s.t.Errorf("asynq lists %v", got)
		}
	})
}

// TestPassCoversAllMasters: the apps of a cluster are spread over its masters.
func TestPassCoversAllMasters(t *testing.T) {
	var addrs []string
	for _, node := range redistest.StartMasters(t) {
		addrs = append(addrs, node.Addr())
	}
	rdb := redis.NewClusterClient(&redis.ClusterOptions{Addrs: addrs})
	t.Cleanup(func() { _ = rdb.Close() })
	l := ledger.New(rdb, ledger.Policy{Retention: retention, StreamMax: 100})
	const n = 12
	for i := range n {
		ref := ledger.Ref{App: fmt.Sprintf("wx%016x", i), ID: "a", Batch: "b"}
		if _, err := l.Mark(t.Context(), ref, ref.App+":send:subscribe", "waiting"); err != nil {
			t.Fatal(err)
		}
	}
	r := reconcile.New(rdb, l, reconcile.Config{Repair: true, Retention: retention})
	for pass, want := range []int{0, n} {
		if got, err := r.Pass(t.Context()); err != nil || got.Missing != n || got.Ended != want {
			t.Errorf("pass %d: %+v, %v", pass, got, err)
		}
	}
	for i := range n {
		if counts, err := l.Batch(t.Context(), fmt.Sprintf("wx%016x", i), "b"); err != nil || counts["done"] != 1 {
			t.Errorf("app %d: %v, %v", i, counts, err)
		}
	}
}

// TestCommandsPerPass: a pass reports to Pace how many commands it sends: about one per hash of
// marks.
func TestCommandsPerPass(t *testing.T) {
	onEach(t, func(s *stage) {
		const n = 5000
		markings := make([]tasks.Envelope, n)
		for i := range markings {
			markings[i] = envelope(fmt.Sprint(i), "")
		}
		for _, answer := range s.client.SubmitMany(s.t.Context(), markings) {
			if answer.Err != nil {
				s.t.Fatal(answer.Err)
			}
		}
		paced := 0
		config := s.config()
		config.Pace = func(_ context.Context, commands, _ int) error { paced += commands; return nil }
		got := s.pass(reconcile.New(s.rdb, s.ledger, config))
		hashes := len(s.hashes())
		if got.Checked != n || paced < hashes || paced > hashes+200 {
			s.t.Errorf("%d commands for %d tasks in %d hashes; %+v", paced, n, hashes, got)
		}
	})
}

func (s *stage) hashes() map[string]bool {
	all := make(map[string]bool)
	for i := range 5000 {
		all[ledger.WaitingKey(app, fmt.Sprint(i))] = true
	}
	return all
}

// TestStreamsAreTrimmed: the stream of an app without further outcomes loses the results that are
// older than the retention; a pass without repair changes nothing.
func TestStreamsAreTrimmed(t *testing.T) {
	onEach(t, func(s *stage) {
		ctx := s.t.Context()
		s.rdb.SAdd(ctx, ledger.AppsKey, app)
		old := time.Now().Add(-2 * retention).UnixMilli()
		for i := range int64(500) {
			args := &redis.XAddArgs{Stream: ledger.StreamKey(app), ID: fmt.Sprintf("%d-0", old+i), Values: []string{"result", "{}"}}
			if err := s.rdb.XAdd(ctx, args).Err(); err != nil {
				s.t.Fatal(err)
			}
		}
		length := func() int64 { return s.rdb.XLen(ctx, ledger.StreamKey(app)).Val() }
		c := s.config()
		c.Repair = false
		s.pass(reconcile.New(s.rdb, ledger.New(s.rdb, ledger.Policy{Retention: retention}), c))
		if n := length(); n != 500 {
			s.t.Errorf("without repair %d of 500 results are left", n)
		}
		s.pass(reconcile.New(s.rdb, ledger.New(s.rdb, ledger.Policy{Retention: retention}), s.config()))
		if n := length(); n > 100 {
			s.t.Errorf("%d old results are left", n)
		}
	})
}

// TestIndexIsKeptWhileTasksWait: the index of openids of a day whose tasks still wait is kept for the
// retention and a day from the pass on.
func TestIndexIsKeptWhileTasksWait(t *testing.T) {
	onEach(t, func(s *stage) {
		ctx := s.t.Context()
		l := ledger.New(s.rdb, ledger.Policy{Retention: 72 * time.Hour, DeadAfter: time.Minute, LostLimit: 3, IndexOpenIDs: true})
		s.rdb.SAdd(ctx, ledger.AppsKey, app)
		s.submit("1", "")
		marked := l.MarkMany(ctx, []ledger.MarkRequest{{
			Ref: ledger.Ref{App: app, ID: "old"}, Queue: queue, State: "waiting", Enqueued: time.Now().AddDate(0, 0, -3), Receiver: "oPerson",
		}})[0]
		if marked.Err != nil {
			s.t.Fatal(marked.Err)
		}
		lists := s.rdb.Keys(ctx, fmt.Sprintf("wxcourier:{%s}:openids:%d:*", app, ledger.Day(time.Now().AddDate(0, 0, -3)))).Val()
		if len(lists) != 1 || s.rdb.TTL(ctx, lists[0]).Val() > 49*time.Hour {
			s.t.Fatalf("lists %v", lists)
		}
		c := s.config()
		c.Repair = false
		s.pass(reconcile.New(s.rdb, l, c))
		if left := s.rdb.TTL(ctx, lists[0]).Val(); left > 49*time.Hour {
			s.t.Errorf("without repair the list is kept for %v", left)
		}
		s.pass(reconcile.New(s.rdb, l, s.config()))
		if left := s.rdb.TTL(ctx, lists[0]).Val(); (left - 96*time.Hour).Abs() > time.Minute {
			s.t.Errorf("the list is kept for %v", left)
		}
	})
}
