package ingest_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/ingest"
	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/internal/taskfile"
	"github.com/wxcourier/wxcourier/tasks"
)

const app = "wx0123456789abcdef"

func lines(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `{"type":"seccheck:text","app":"%s","id":"t%d","body":{"content":"x","version":2,"scene":1,"openid":"o"}}`+"\n", app, i)
	}
	return b.String()
}

// fixture has a Redis, and records what a run reports.
type fixture struct {
	t      *testing.T
	mini   interface{ SetError(string) }
	rdb    redis.UniversalClient
	ledger *ledger.Ledger

	mu      sync.Mutex
	results map[string]tasks.Outcome
	bad     []int
	open    int // enqueued tasks without an outcome
	maxOpen int
	trouble []error
}

func newFixture(t *testing.T) *fixture {
	mini, rdb := redistest.Mini(t)
	return &fixture{
		t: t, mini: mini, rdb: rdb, results: make(map[string]tasks.Outcome),
		ledger: ledger.New(rdb, ledger.Policy{Retention: time.Minute, StreamMax: 1000}),
	}
}

func (s *fixture) options() ingest.Options {
	return ingest.Options{
		Client: tasks.NewClient(s.rdb),
		Admit:  func(context.Context, string) error { return nil },
		Known:  s.ledger.Exist,
		OnBadLine: func(line int, _ error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.bad = append(s.bad, line)
		},
		OnEnqueued:  func(int, tasks.Receipt) {},
		OnDuplicate: func(int, tasks.Envelope) {},
	}
}

func (s *fixture) newRunner(window int, o ingest.Options) *ingest.Runner {
	reader := redis.NewClient(s.rdb.(*redis.Client).Options())
	return ingest.NewRunner(ingest.RunnerOptions{
		Options: o, Window: window,
		Inspector: tasks.NewInspector(s.rdb), Reader: tasks.NewInspector(reader), CloseReader: func() { _ = reader.Close() },
		OnResult: func(_ context.Context, r tasks.Result) {
			s.mu.Lock()
			defer s.mu.Unlock()
			if _, twice := s.results[r.ID]; twice {
				s.t.Errorf("%s was reported twice", r.ID)
			}
			s.results[r.ID] = r.Outcome
			s.open--
		},
		OnError: func(err error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.trouble = append(s.trouble, err)
		},
	})
}

// settle records an outcome, as a worker does.
func (s *fixture) settle(id string) {
	result, err := json.Marshal(tasks.Result{ID: id, App: app, Type: tasks.TypeTextCheck, State: tasks.StateDone, Outcome: tasks.OutcomeAccepted})
	if err != nil {
		s.t.Error(err)
	}
	queue := tasks.QueueName(app, tasks.TypeTextCheck, tasks.Urgent)
	if _, err := s.ledger.Settle(context.Background(), ledger.Ref{App: app, ID: id}, ledger.SettleRequest{Outcome: "accepted", Result: result, Queue: queue}); err != nil {
		s.t.Error(err)
	}
}

// withWorker sets Enqueued so that each task gets an outcome in the background.
func (s *fixture) withWorker(o ingest.Options) ingest.Options {
	enqueued := make(chan string, 10_000)
	var worker sync.WaitGroup
	worker.Go(func() {
		for id := range enqueued {
			s.settle(id)
		}
	})
	s.t.Cleanup(func() { close(enqueued); worker.Wait() })
	o.OnEnqueued = func(_ int, r tasks.Receipt) {
		s.mu.Lock()
		s.open++
		s.maxOpen = max(s.maxOpen, s.open)
		s.mu.Unlock()
		if !r.Done {
			enqueued <- r.ID
		}
	}
	return o
}

func TestRunnerDeliversEachResult(t *testing.T) {
	s := newFixture(t)
	s.settle("t3") // before the run
	runner := s.newRunner(10, s.withWorker(s.options()))
	text := lines(300) + "bad\n" + lines(2)
	if err := runner.Run(t.Context(), taskfile.New(strings.NewReader(text))); err != nil {
		t.Fatal(err)
	}
	runner.Close(t.Context())
	want := ingest.Counts{Lines: 303, Bad: 1, Duplicates: 2, Enqueued: 299, Already: 1}
	if got := runner.Counts(); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if len(s.results) != 300 || runner.Pending() != 0 || runner.Lost() != 0 || len(s.trouble) > 0 {
		t.Errorf("%d results, %d pending, %v", len(s.results), runner.Pending(), s.trouble)
	}
	if s.maxOpen > 10 {
		t.Errorf("%d tasks without an outcome at the same time", s.maxOpen)
	}
}

func TestInterruptedRunnerDeliversRecordedResults(t *testing.T) {
	s := newFixture(t)
	ctx, cancel := context.WithCancel(t.Context())
	o := s.options()
	enqueued := 0
	o.OnEnqueued = func(int, tasks.Receipt) {
		if enqueued++; enqueued == 5 {
			cancel()
		}
	}
	runner := s.newRunner(5, o)
	if err := runner.Run(ctx, taskfile.New(strings.NewReader(lines(100)))); err != nil {
		t.Fatal(err)
	}
	s.settle("t0") // a worker was processing it
	runner.Close(t.Context())
	if len(s.results) != 1 || runner.Pending() != 4 {
		t.Errorf("results %v, %d pending", s.results, runner.Pending())
	}
}

func TestAnAppThatIsNotAdmitted(t *testing.T) {
	s := newFixture(t)
	o, calls := s.options(), 0
	o.Admit = func(context.Context, string) error { calls++; return errors.New("not here") }
	counts, err := ingest.Enqueue(t.Context(), taskfile.New(strings.NewReader(lines(3))), o)
	if err != nil || counts.Bad != 3 || calls != 1 || len(s.bad) != 3 {
		t.Errorf("%+v, %v, %d calls of Admit", counts, err, calls)
	}
}

func TestBadBodiesAreReported(t *testing.T) {
	s := newFixture(t)
	text := strings.Replace(lines(2), `"version":2`, `"version":3`, 1)
	counts, err := ingest.Enqueue(t.Context(), taskfile.New(strings.NewReader(text)), s.options())
	if err != nil || counts.Bad != 1 || counts.Enqueued != 1 || s.bad[0] != 1 {
		t.Errorf("%+v, %v, bad lines %v", counts, err, s.bad)
	}
}

func TestRedisIsAwayForAMoment(t *testing.T) {
	s := newFixture(t)
	o := s.options()
	away := sync.OnceFunc(func() {
		s.mini.SetError("LOADING not yet")
		time.AfterFunc(300*time.Millisecond, func() { s.mini.SetError("") })
	})
	o.Admit = func(context.Context, string) error { away(); return nil }
	counts, err := ingest.Enqueue(t.Context(), taskfile.New(strings.NewReader(lines(20))), o)
	if err != nil || counts.Enqueued != 20 {
		t.Errorf("%+v, %v", counts, err)
	}
}

func TestRedisStaysAway(t *testing.T) {
	s := newFixture(t)
	o := s.options()
	o.Admit = func(context.Context, string) error { s.mini.SetError("MISCONF no disk"); return nil }
	counts, err := ingest.Enqueue(t.Context(), taskfile.New(strings.NewReader(lines(100))), o)
	if !errors.Is(err, ingest.ErrBroken) || !strings.Contains(err.Error(), "line ") || counts.Enqueued != 0 {
		t.Errorf("%+v, %v", counts, err)
	}
}

func TestABrokenStream(t *testing.T) {
	s := newFixture(t)
	broken := errors.New("the pipe is gone")
	r := io.MultiReader(strings.NewReader(lines(2)), iotest.ErrReader(broken))
	runner := s.newRunner(10, s.withWorker(s.options()))
	err := runner.Run(t.Context(), taskfile.New(r))
	runner.Close(t.Context())
	if !errors.Is(err, ingest.ErrBroken) || !errors.Is(err, broken) || len(s.results) != 2 {
		t.Errorf("%v, results %v", err, s.results)
	}
}

func TestTasksThatHaveEndedAreNotEnqueued(t *testing.T) {
	s := newFixture(t)
	o := s.options()
	o.AlreadyEnded = func(_ context.Context, e tasks.Envelope) (bool, error) { return e.ID == "t1" || e.ID == "t3", nil }
	counts, err := ingest.Enqueue(t.Context(), taskfile.New(strings.NewReader(lines(5))), o)
	if err != nil || counts.Ended != 2 || counts.Enqueued != 3 || counts.Lines != 5 {
		t.Errorf("%+v, %v", counts, err)
	}
	for id, want := range map[string]bool{"t0": true, "t1": false, "t3": false} {
		if _, err := s.ledger.Record(t.Context(), app, id); (err == nil) != want {
			t.Errorf("%s: %v", id, err)
		}
	}
	broken := errors.New("the journal cannot be read")
	o.AlreadyEnded = func(context.Context, tasks.Envelope) (bool, error) { return false, broken }
	if _, err := ingest.Enqueue(t.Context(), taskfile.New(strings.NewReader(lines(5))), o); !errors.Is(err, broken) || !errors.Is(err, ingest.ErrBroken) || !strings.Contains(err.Error(), "line 1") {
		t.Errorf("%v", err)
	}
}

// TestLinesOfAnEarlierVersion: a line without an id that an earlier version enqueued, whose ids
// had a dash, is not enqueued again; other lines get an id without a dash.
func TestLinesOfAnEarlierVersion(t *testing.T) {
	s := newFixture(t)
	anonymous := func(text string) string {
		return fmt.Sprintf(`{"type":"seccheck:text","app":"%s","body":{"content":"%s","version":2,"scene":1,"openid":"o"}}`, app, text)
	}
	earlierID := func(line string) string { return "f-" + tasks.LineID([]byte(line), 0)[1:] }
	for _, text := range []string{"waits", "ended"} {
		e, err := tasks.ParseEnvelope([]byte(anonymous(text)))
		if err != nil {
			t.Fatal(err)
		}
		e.ID = earlierID(anonymous(text))
		if _, err := s.options().Client.Submit(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	s.settle(earlierID(anonymous("ended")))
	o, ids := s.options(), map[int]string{}
	o.OnEnqueued = func(line int, r tasks.Receipt) { ids[line] = r.ID }
	text := anonymous("waits") + "\n" + anonymous("new") + "\n" + anonymous("ended") + "\n" + anonymous("waits") + "\n"
	counts, err := ingest.Enqueue(t.Context(), taskfile.New(strings.NewReader(text)), o)
	if err != nil || counts.Already != 2 || counts.Enqueued != 2 {
		t.Errorf("%+v, %v", counts, err)
	}
	want := map[int]string{
		1: earlierID(anonymous("waits")), 2: tasks.LineID([]byte(anonymous("new")), 0),
		3: earlierID(anonymous("ended")), 4: tasks.LineID([]byte(anonymous("waits")), 1),
	}
	for line, id := range want {
		if ids[line] != id {
			t.Errorf("line %d has the id %s, want %s", line, ids[line], id)
		}
	}
	s.mini.SetError("LOADING")
	o.Known = func(context.Context, string, []string) ([]bool, error) { return nil, errors.New("no answer") }
	if _, err := ingest.Enqueue(t.Context(), taskfile.New(strings.NewReader(text)), o); !errors.Is(err, ingest.ErrBroken) {
		t.Errorf("without an answer about earlier ids: %v", err)
	}
}
