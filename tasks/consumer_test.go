package tasks_test

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/tasks"
)

const consumerGroup = "billing"

// record records the results of n tasks of clientApp with ids <prefix>0, <prefix>1 …
func record(t *testing.T, rdb redis.UniversalClient, prefix string, n int) {
	t.Helper()
	l := ledger.New(rdb, ledger.Policy{Retention: time.Hour})
	for i := range n {
		id := fmt.Sprintf("%s%d", prefix, i)
		if _, err := l.Settle(t.Context(), ledger.Ref{App: clientApp, ID: id}, ledger.SettleRequest{
			Outcome: "accepted", Result: tasks.Result{ID: id, App: clientApp, Outcome: tasks.OutcomeAccepted, ErrMsg: "a text"}.Encode(),
		}); err != nil {
			t.Fatal(err)
		}
	}
}

// seenResults counts the deliveries of each result.
type seenResults struct {
	mu   sync.Mutex
	seen map[string]int
}

func (s *seenResults) add(r tasks.Result) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seen == nil {
		s.seen = make(map[string]int)
	}
	s.seen[r.App+":"+r.ID]++
}

// counts returns the number of results and of deliveries.
func (s *seenResults) counts() (results, deliveries int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range s.seen {
		deliveries += n
	}
	return len(s.seen), deliveries
}

func (s *seenResults) of(id string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen[clientApp+":"+id]
}

// logText is the output of a logger.
type logText struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// consume runs a consumer of clientApp until stop is called.
func consume(t *testing.T, rdb redis.UniversalClient, cfg tasks.ConsumerConfig, process func(tasks.Result) error) (log *logText, stop func()) {
	t.Helper()
	log = &logText{}
	cfg.Group, cfg.Log = cmp.Or(cfg.Group, consumerGroup), slog.New(slog.NewTextHandler(log, nil))
	if cfg.Apps == nil {
		cfg.Apps = []string{clientApp}
	}
	c, err := tasks.NewConsumer(rdb, cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx, process) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return log, stop
}

func pendingOf(t *testing.T, rdb redis.UniversalClient) int64 {
	t.Helper()
	pending, err := rdb.XPending(t.Context(), ledger.StreamKey(clientApp), consumerGroup).Result()
	if err != nil {
		return -1
	}
	return pending.Count
}

// TestConsumersShare: each result reaches one of the consumers once, those recorded before as
// well as later ones; a second run gets none of them again, and another group all of them.
func TestConsumersShare(t *testing.T) {
	share := func(t *testing.T, rdb redis.UniversalClient) {
		t.Helper()
		record(t, rdb, "before", 150)
		var seen seenResults
		var stops []func()
		for range 3 {
			_, stop := consume(t, rdb, tasks.ConsumerConfig{Batch: 10}, func(r tasks.Result) error { seen.add(r); return nil })
			stops = append(stops, stop)
		}
		record(t, rdb, "after", 150)
		redistest.Until(t, 20*time.Second, "300 results", func() bool { n, _ := seen.counts(); return n == 300 })
		for _, stop := range stops {
			stop()
		}
		if results, deliveries := seen.counts(); results != 300 || deliveries != 300 {
			t.Errorf("%d deliveries of %d results", deliveries, results)
		}
		if n := pendingOf(t, rdb); n != 0 {
			t.Errorf("%d results are not acknowledged", n)
		}
		if left := rdb.XInfoConsumers(t.Context(), ledger.StreamKey(clientApp), consumerGroup).Val(); len(left) != 0 {
			t.Errorf("consumers are left behind: %+v", left)
		}
		var again, other seenResults
		_, stop := consume(t, rdb, tasks.ConsumerConfig{}, func(r tasks.Result) error { again.add(r); return nil })
		record(t, rdb, "last", 1)
		redistest.Until(t, 20*time.Second, "the last result", func() bool { return again.of("last0") == 1 })
		stop()
		if n, _ := again.counts(); n != 1 {
			t.Errorf("the second run of the group got %d results, want the new one", n)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		rdb.SAdd(t.Context(), ledger.AppsKey, clientApp)
		err := tasks.NewClient(rdb).Consume(ctx, "audit", func(r tasks.Result) error {
			if other.add(r); other.of("last0") == 1 {
				cancel()
			}
			return nil
		})
		if n, _ := other.counts(); err != nil || n != 301 {
			t.Errorf("another group got %d results, %v; want 301", n, err)
		}
	}
	redistest.Each(t, share)
	t.Run("cluster", func(t *testing.T) { share(t, redistest.StartCluster(t)) })
}

// TestConsumerStartsNow: a group that begins now gets no older result.
func TestConsumerStartsNow(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		record(t, rdb, "old", 5)
		time.Sleep(3 * time.Millisecond) // positions have milliseconds
		var seen seenResults
		consume(t, rdb, tasks.ConsumerConfig{FromNow: true}, func(r tasks.Result) error { seen.add(r); return nil })
		redistest.Until(t, 20*time.Second, "the group", func() bool { return pendingOf(t, rdb) == 0 })
		record(t, rdb, "new", 5)
		redistest.Until(t, 20*time.Second, "the new results", func() bool { return seen.of("new4") == 1 })
		if n, _ := seen.counts(); n != 5 {
			t.Errorf("%d results, want 5: %v", n, seen.seen)
		}
	})
}

// TestFailedResultIsDeliveredAgain: a failure delays its own result only; what always fails is
// given up after MaxDeliveries, to OnDead or to the log, where its contents do not appear.
func TestFailedResultIsDeliveredAgain(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		record(t, rdb, "m", 6)
		if err := rdb.XAdd(t.Context(), &redis.XAddArgs{Stream: ledger.StreamKey(clientApp), Values: []string{"result", "no JSON"}}).Err(); err != nil {
			t.Fatal(err)
		}
		var (
			seen seenResults
			mu   sync.Mutex
			dead []tasks.DeadResult
		)
		refuse := errors.New("the database is away")
		cfg := tasks.ConsumerConfig{Backoff: 5 * time.Millisecond, MaxDeliveries: 4, OnDead: func(d tasks.DeadResult) error {
			mu.Lock()
			defer mu.Unlock()
			dead = append(dead, d)
			if len(dead) == 1 {
				return refuse // so that it is handed over again
			}
			return nil
		}}
		process := func(r tasks.Result) error {
			seen.add(r)
			if r.ID == "m2" || r.ID == "m4" && seen.of("m4") < 3 {
				return refuse
			}
			return nil
		}
		_, stop := consume(t, rdb, cfg, process)
		redistest.Until(t, 20*time.Second, "nothing is pending", func() bool {
			mu.Lock()
			defer mu.Unlock()
			return len(dead) == 3 && pendingOf(t, rdb) == 0
		})
		stop()
		for id, want := range map[string]int{"m0": 1, "m2": 4, "m4": 3, "m5": 1} {
			if n := seen.of(id); n != want {
				t.Errorf("%s was delivered %d times, want %d", id, n, want)
			}
		}
		last := dead[2] // dead[0] is the text that cannot be decoded, or m2
		if last.Result.ID != "m2" && dead[1].Result.ID != "m2" {
			t.Errorf("m2 was not given up: %+v", dead)
		}
		for _, d := range dead {
			if d.Result.ID == "m2" && (!errors.Is(d.Err, refuse) || d.Deliveries != 4 || d.App != clientApp) {
				t.Errorf("%+v", d)
			}
		}

		record(t, rdb, "logged", 1)
		log, _ := consume(t, rdb, tasks.ConsumerConfig{Backoff: time.Millisecond, MaxDeliveries: 2}, func(tasks.Result) error { return refuse })
		redistest.Until(t, 20*time.Second, "it is logged", func() bool { return strings.Contains(log.String(), "logged0") })
		if text := log.String(); !strings.Contains(text, "level=ERROR") || strings.Contains(text, "a text") {
			t.Error(text)
		}
	})
}

// TestFailuresStopReading: while everything fails, the consumer does not read on and on.
func TestFailuresStopReading(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		record(t, rdb, "m", 60)
		var seen seenResults
		consume(t, rdb, tasks.ConsumerConfig{Batch: 10, Backoff: time.Millisecond}, func(r tasks.Result) error { seen.add(r); return errors.New("no") })
		redistest.Until(t, 20*time.Second, "40 deliveries", func() bool { _, n := seen.counts(); return n >= 40 })
		if n, _ := seen.counts(); n > 20 {
			t.Errorf("%d results were read while ten failed", n)
		}
	})
}

// TestSlowFunctionKeepsItsResults: the results of a slow consumer are not claimed by others.
func TestSlowFunctionKeepsItsResults(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		record(t, rdb, "m", 4)
		var seen seenResults
		cfg := tasks.ConsumerConfig{ClaimIdle: 300 * time.Millisecond, Backoff: 20 * time.Millisecond}
		slow := func(r tasks.Result) error { seen.add(r); time.Sleep(400 * time.Millisecond); return nil }
		consume(t, rdb, cfg, slow)
		redistest.Until(t, 20*time.Second, "the first result", func() bool { n, _ := seen.counts(); return n == 1 })
		consume(t, rdb, cfg, slow)
		redistest.Until(t, 20*time.Second, "nothing is pending", func() bool { n, _ := seen.counts(); return n == 4 && pendingOf(t, rdb) == 0 })
		if _, deliveries := seen.counts(); deliveries != 4 {
			t.Errorf("%d deliveries of 4 results", deliveries)
		}
	})
}

// TestConsumerIsCanceled: what a consumer has not begun when its context ends reaches another one
// at once, and what it has begun is acknowledged.
func TestConsumerIsCanceled(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		record(t, rdb, "m", 20)
		var first, second seenResults
		begun, end := make(chan struct{}, 20), make(chan struct{})
		_, stop := consume(t, rdb, tasks.ConsumerConfig{}, func(r tasks.Result) error {
			first.add(r)
			begun <- struct{}{}
			<-end
			return nil
		})
		<-begun
		time.AfterFunc(50*time.Millisecond, func() { close(end) }) // after stop has canceled the context
		stop()
		if n, _ := first.counts(); n != 1 {
			t.Fatalf("%d results were processed after the end of the context", n)
		}
		_, stop = consume(t, rdb, tasks.ConsumerConfig{}, func(r tasks.Result) error { second.add(r); return nil })
		redistest.Until(t, 20*time.Second, "the rest", func() bool { n, _ := second.counts(); return n == 19 })
		stop()
		if pendingOf(t, rdb) != 0 || second.of("m0") != 0 {
			t.Errorf("%d pending; m0 was delivered %d times more", pendingOf(t, rdb), second.of("m0"))
		}
	})
}

// consumerEnv makes the test binary a consumer of the Redis with this address.
const consumerEnv = "WXCOURIER_TEST_CONSUMER"

// TestConsumerProcess is the process that TestKilledConsumer kills: it processes nine results, and
// has ninety-one more.
func TestConsumerProcess(t *testing.T) {
	addr := os.Getenv(consumerEnv)
	if addr == "" {
		t.Skip("not a process of TestKilledConsumer")
	}
	rdb := redis.NewClient(&redis.Options{Addr: addr})
	n := 0
	_, _ = consume(t, rdb, tasks.ConsumerConfig{}, func(r tasks.Result) error {
		if n++; n == 10 {
			fmt.Println("stuck")
			select {}
		}
		fmt.Println("processed", r.ID)
		time.Sleep(20 * time.Millisecond)
		return nil
	})
	select {}
}

// TestKilledConsumer: after kill -9 of a consumer another one gets everything that was not
// acknowledged, and at most ackInterval's worth again.
func TestKilledConsumer(t *testing.T) {
	server := redistest.Start(t)
	rdb := server.Client(t)
	record(t, rdb, "m", 100)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	process := exec.CommandContext(t.Context(), exe, "-test.run=^TestConsumerProcess$") //nolint:gosec // the test itself
	process.Env = append(os.Environ(), consumerEnv+"="+server.Addr())
	out, err := process.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	processed := make(map[string]bool)
	for lines := bufio.NewScanner(out); lines.Scan() && lines.Text() != "stuck"; {
		if id, ok := strings.CutPrefix(lines.Text(), "processed "); ok {
			processed[id] = true
		}
	}
	if len(processed) != 9 {
		t.Errorf("%d results processed before the end", len(processed))
	}
	var seen seenResults
	consume(t, rdb, tasks.ConsumerConfig{ClaimIdle: 500 * time.Millisecond, Backoff: 50 * time.Millisecond}, func(r tasks.Result) error { seen.add(r); return nil })
	if err := process.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = process.Wait()
	redistest.Until(t, 30*time.Second, "nothing is pending", func() bool { n, _ := seen.counts(); return n >= 91 && pendingOf(t, rdb) == 0 })
	results, deliveries := seen.counts()
	if results > 98 || deliveries != results {
		t.Errorf("%d deliveries of %d results after the kill", deliveries, results)
	}
	for i := range 100 {
		if id := fmt.Sprintf("m%d", i); !processed[id] && seen.of(id) == 0 {
			t.Errorf("%s was lost", id)
		}
	}
}

// TestConsumerSurvivesRedis: the consumer goes on after a restart of Redis, and after the loss of
// the group, of which it says a word.
func TestConsumerSurvivesRedis(t *testing.T) {
	server := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
	rdb := server.Client(t)
	record(t, rdb, "a", 3)
	var seen seenResults
	lost := make(chan tasks.LostResults, 10)
	log, _ := consume(t, rdb, tasks.ConsumerConfig{OnLost: func(l tasks.LostResults) { lost <- l }}, func(r tasks.Result) error { seen.add(r); return nil })
	redistest.Until(t, 20*time.Second, "the first results", func() bool { n, _ := seen.counts(); return n == 3 })
	server.Kill()
	server.Restart()
	record(t, rdb, "b", 3)
	redistest.Until(t, 30*time.Second, "results after the restart", func() bool { return seen.of("b2") == 1 })
	if seen.of("a0") != 1 || len(lost) != 0 {
		t.Errorf("a0 was delivered %d times; lost: %v", seen.of("a0"), lost)
	}
	if err := rdb.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	record(t, rdb, "c", 3)
	redistest.Until(t, 30*time.Second, "results after the loss", func() bool { return seen.of("c2") == 1 })
	if l := <-lost; l.App != clientApp || !strings.Contains(log.String(), "the consumer group is gone") {
		t.Errorf("%+v, %s", l, log)
	}
}

// TestConsumerSaysWhatIsLost: results that were removed before the group got them, and others that
// were removed while they were pending.
func TestConsumerSaysWhatIsLost(t *testing.T) {
	rdb := redistest.Start(t).Client(t)
	record(t, rdb, "a", 50)
	lost := make(chan tasks.LostResults, 10)
	cfg := tasks.ConsumerConfig{Backoff: 20 * time.Millisecond, OnLost: func(l tasks.LostResults) { lost <- l }}
	_, stop := consume(t, rdb, cfg, func(tasks.Result) error { return errors.New("no") })
	redistest.Until(t, 20*time.Second, "all are pending", func() bool { return pendingOf(t, rdb) == 50 })
	stop()
	if len(lost) != 0 {
		t.Fatalf("lost: %+v", <-lost)
	}
	l := ledger.New(rdb, ledger.Policy{Retention: time.Hour, StreamMax: 20})
	for i := range 400 {
		if _, err := l.Settle(t.Context(), ledger.Ref{App: clientApp, ID: fmt.Sprintf("b%d", i)}, ledger.SettleRequest{
			Outcome: "accepted", Result: tasks.Result{ID: fmt.Sprintf("b%d", i), App: clientApp, ErrMsg: strings.Repeat("x", 200)}.Encode(),
		}); err != nil {
			t.Fatal(err)
		}
	}
	cfg.ClaimIdle = 50 * time.Millisecond
	var seen seenResults
	consume(t, rdb, cfg, func(r tasks.Result) error { seen.add(r); return nil })
	redistest.Until(t, 20*time.Second, "the rest", func() bool { return seen.of("b399") == 1 && pendingOf(t, rdb) == 0 })
	var pending, unread int
	for range 2 {
		if l := <-lost; l.Pending > 0 {
			pending += l.Pending
		} else if unread++; l.After.IsZero() || l.Upto.Before(l.After) {
			t.Errorf("%+v", l)
		}
	}
	if pending != 50 || unread != 1 {
		t.Errorf("%d pending results and %d gaps were reported, want 50 and 1", pending, unread)
	}
}

func TestConsumerConfigIsChecked(t *testing.T) {
	_, err := tasks.NewConsumer(nil, tasks.ConsumerConfig{Apps: []string{"x"}, Batch: -1, Backoff: -1})
	for _, field := range []string{"Group", "Apps", "Batch", "Backoff"} {
		if err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%v does not name %s", err, field)
		}
	}
}
