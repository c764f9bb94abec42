package chaos

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/wxcourier/wxcourier/tasks"
)

// For the tests in which operators act at random.
const (
	// firstTasks are enqueued before the first action.
	firstTasks = 150
	// attempts is low, so that some tasks end as failed while operators act.
	attempts = 3
	// group is the asynq group of some plain tasks.
	group = "g"
)

// actions returns the number of actions of a test: usually, or CHAOS_ACTIONS / share if that is more.
func actions(t *testing.T, usually, share int) int {
	t.Helper()
	if testing.Short() {
		t.Skip("skipped: -short, it waits for lost leases")
	}
	return max(usually, environment(t, "CHAOS_ACTIONS", 0)/share)
}

// random returns the generator that chooses the actions. CHAOS_SEED sets its seed. The same seed
// gives the same sequence of actions; which tasks they affect depends on the replicas' speed.
func random(t *testing.T) *rand.Rand {
	t.Helper()
	s := environment(t, "CHAOS_SEED", seed)
	t.Logf("CHAOS_SEED=%d", s)
	return rand.New(rand.NewPCG(uint64(s), uint64(s))) //nolint:gosec // must be repeatable; not used for secrets
}

// environment reads a positive number from an environment variable; otherwise is the default.
func environment(t *testing.T, name string, otherwise int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s=%s is not a positive number", name, text)
	}
	return n
}

// taskMix returns the kinds of tasks to choose from: every type and every way to end.
func taskMix() []testTask {
	return []testTask{
		{app: mini, typ: tasks.TypeSubscribe},
		{app: mini, typ: tasks.TypeSubscribe},
		{app: mini, typ: tasks.TypeSubscribe, fault: "lost"},
		{app: mini, typ: tasks.TypeSubscribe, fault: "unsubscribed", outcome: tasks.OutcomeRefused},
		{app: mini, typ: tasks.TypeScheme},
		{app: mini, typ: tasks.TypeTextCheck},
		{app: mini, typ: tasks.TypeTextCheck, fault: "busy9999", outcome: tasks.OutcomeFailed},
		{app: mini, typ: tasks.TypeSubscribe, plain: true},
		{app: official, typ: tasks.TypeTemplate},
		{app: official, typ: tasks.TypeTemplate, fault: "reset"},
		{app: official, typ: tasks.TypeCustom},
		{app: official, typ: tasks.TypeCustom, fault: "badopenid", outcome: tasks.OutcomeRejected},
		{app: official, typ: tasks.TypeCustom, fault: "busy9999", outcome: tasks.OutcomeFailed},
		{app: third, typ: tasks.TypeSubscribe},
		{app: third, typ: tasks.TypeSubscribe, fault: "hangafter"},
		{app: third, typ: tasks.TypeUnlimitedCode},
		{app: third, typ: tasks.TypeTextCheck},
		{app: third, typ: tasks.TypeScheme},
		{app: third, typ: tasks.TypeCustom},
		{app: mini, typ: tasks.TypeUnlimitedCode},
	}
}

// limitsForMix returns limits, in calls per second by type, with which n tasks of taskMix take about that long.
func limitsForMix(n int, last time.Duration) map[string]int {
	rows := taskMix()
	limits := make(map[string]int)
	for _, row := range rows {
		limits[row.typ] += int(float64(n)/float64(len(rows))/last.Seconds()) + 1
	}
	return limits
}

// producer enqueues tasks while operators act. It is not safe for concurrent use.
type producer struct {
	w           *world
	rng         *rand.Rand
	asynqClient *asynq.Client // of a producer without package tasks
	all         map[string]testTask
	envelopes   []tasks.Envelope // of the tasks that are not plain, for repeat
	split       bool             // half of the tasks are in batches of about twenty
	grouped     bool             // some plain tasks wait in a group until an operator runs them
}

func (w *world) producer(rng *rand.Rand) *producer {
	return &producer{w: w, rng: rng, all: make(map[string]testTask), asynqClient: asynq.NewClientFromRedisClient(w.rdb)}
}

// batchOf returns the name of the nth task's batch, when split is set.
func batchOf(n int) string { return fmt.Sprintf("part-%d", n/40) }

// anyBatch returns one of the batches at random.
func (b *producer) anyBatch() string { return batchOf(b.rng.IntN(len(b.all))) }

// add enqueues n new tasks of random kinds and priorities, some with process_at.
func (b *producer) add(n int) {
	b.w.t.Helper()
	rows := taskMix()
	var fresh []tasks.Envelope
	for range n {
		id, row := fmt.Sprintf("task-%d", len(b.all)), rows[b.rng.IntN(len(rows))]
		if b.split && !row.plain && b.rng.IntN(2) == 0 {
			row.batch = batchOf(len(b.all))
		}
		e := tasks.Envelope{Type: row.typ, App: row.app, ID: id, Batch: row.batchName(), Body: row.body(id)}
		if b.rng.IntN(3) == 0 {
			e.Priority = tasks.Bulk
		}
		if b.rng.IntN(5) == 0 {
			e.ProcessAt = time.Now().Add(time.Duration(2+b.rng.IntN(20)) * time.Second)
		}
		if row.plain {
			row.outcome = b.addPlain(e)
		} else {
			fresh = append(fresh, e)
		}
		b.all[id] = row
	}
	b.envelopes = append(b.envelopes, fresh...)
	for i, s := range b.w.client.SubmitMany(b.w.t.Context(), fresh) {
		if s.Err != nil {
			b.w.t.Errorf("%s was not enqueued: %v", fresh[i].ID, s.Err)
		}
	}
}

// body returns the task's body; its receiver triggers the task's fault.
func (s testTask) body(id string) []byte {
	body := fmt.Sprintf(bodies[s.typ], id)
	if s.fault != "" {
		body = strings.Replace(body, `"o`+id, `"`+s.fault+`-o`+id, 1)
	}
	return []byte(body)
}

// addPlain enqueues a task with asynq's client alone: in a group, with a retention, or with a
// payload that cannot be decoded. It returns the expected outcome, or "" for accepted.
func (b *producer) addPlain(e tasks.Envelope) (ends tasks.Outcome) {
	b.w.t.Helper()
	e.Batch = ""
	task, err := tasks.NewTask(e)
	must(b.w.t, err)
	options := []asynq.Option{asynq.Retention(time.Hour)}
	switch b.rng.IntN(4) {
	case 0:
		if b.grouped && e.ProcessAt.IsZero() {
			options = []asynq.Option{asynq.Group(group)}
		}
	case 1:
		ends = tasks.OutcomeFailed
		task = asynq.NewTask(e.Type, []byte(`{"id":"`+e.ID+`"}`), asynq.Queue(e.Queue()), asynq.TaskID(e.TaskID()))
	}
	_, err = b.asynqClient.EnqueueContext(b.w.t.Context(), task, options...)
	must(b.w.t, err)
	return ends
}

// repeat enqueues some earlier tasks again, as a producer does after a timeout. It returns their
// ids.
func (b *producer) repeat(n int) (ids []string) {
	b.w.t.Helper()
	var again []tasks.Envelope
	for range min(n, len(b.envelopes)) {
		again = append(again, b.envelopes[b.rng.IntN(len(b.envelopes))])
	}
	for i, s := range b.w.client.SubmitMany(b.w.t.Context(), again) {
		if s.Err != nil {
			b.w.t.Errorf("%s was not enqueued again: %v", again[i].ID, s.Err)
			continue
		}
		ids = append(ids, again[i].ID)
	}
	return ids
}

// logOutcomes says how the backlog ended: what operators left of it.
func (b *producer) logOutcomes(a *audit, deleted map[string]bool) {
	waiting := 0
	for id := range deleted {
		if len(a.results[id]) == 0 {
			waiting++
		}
	}
	b.w.t.Logf("%d tasks, %d calls, outcomes %v; %d were deleted, of which %d have no outcome",
		len(b.all), b.w.sends(), a.counts, len(deleted), waiting)
}
