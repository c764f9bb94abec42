package api_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/apikey"
	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/tasks"
)

const patience = 30 * time.Second

// event is one server-sent event.
type event struct{ name, id, data string }

// eventSource is a client of a stream of results.
type eventSource struct {
	*fixture
	body   io.ReadCloser
	events chan event // closed with the end of the stream

	mu   sync.Mutex
	last string // guarded by mu: the last id
}

// listen opens a stream of results and begins to read it.
func (f *fixture) listen(query, last string) *eventSource {
	f.Helper()
	ctx, cancel := context.WithTimeout(f.Context(), 2*patience)
	f.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, f.url+"/v1/results/stream?"+query, nil)
	if err != nil {
		f.Fatal(err)
	}
	if last != "" {
		r.Header.Set("Last-Event-ID", last)
	}
	response, err := http.DefaultClient.Do(r) //nolint:bodyclose // close does
	if err != nil {
		f.Fatal(err)
	}
	if response.StatusCode != http.StatusOK || response.Header.Get("Content-Type") != "text/event-stream" {
		f.Fatalf("%d %s", response.StatusCode, response.Header.Get("Content-Type"))
	}
	s := &eventSource{fixture: f, body: response.Body, events: make(chan event, 10_000)}
	go s.read()
	return s
}

// read parses the stream as an EventSource does.
func (s *eventSource) read() {
	defer close(s.events)
	var e event
	lines := bufio.NewScanner(s.body)
	for lines.Scan() {
		field, value, _ := strings.Cut(lines.Text(), ": ")
		switch field {
		case "event":
			e.name = value
		case "data":
			e.data = value
		case "id":
			s.mu.Lock()
			s.last = value
			s.mu.Unlock()
		case "":
			if e.data != "" {
				e.id = s.lastID()
				s.events <- e
			}
			e = event{}
		}
	}
}

func (s *eventSource) lastID() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last
}

func (s *eventSource) close() { _ = s.body.Close() }

// next returns the next n events; ok is false if the stream ended before.
func (s *eventSource) next(n int) (all []event, ok bool) {
	s.Helper()
	timeout := time.After(patience)
	for len(all) < n {
		select {
		case e, open := <-s.events:
			if !open {
				return all, false
			}
			all = append(all, e)
		case <-timeout:
			s.Fatalf("%d of %d events after %v", len(all), n, patience)
		}
	}
	return all, true
}

func (s *eventSource) ids(n int) (ids []string) {
	s.Helper()
	all, _ := s.next(n)
	for _, e := range all {
		ids = append(ids, decode[tasks.Result](s.fixture, e.data).ID)
	}
	return ids
}

func TestResultStreamResumes(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		f := newFixture(t, rdb)
		f.record("*", tasks.Result{ID: "before"})
		s := f.listen("", "")
		var want []string
		for i := range 20 {
			f.record("*", tasks.Result{ID: fmt.Sprint(i), App: []string{app, other}[i%2]})
			want = append(want, fmt.Sprint(i))
		}
		events, _ := s.next(20)
		s.close()
		seen := make(map[string]int)
		for _, e := range events {
			if e.name != "result" || e.id == "" || len(e.id) > 80 {
				t.Fatalf("%+v", e)
			}
			seen[decode[tasks.Result](f, e.data).ID]++
		}
		for _, id := range want {
			if seen[id] != 1 {
				t.Errorf("result %s came %d times", id, seen[id])
			}
		}
		// From each id exactly the rest comes, while more is recorded.
		for _, at := range []int{0, 7, 19} {
			resumed := f.listen("", events[at].id)
			f.record("*", tasks.Result{ID: fmt.Sprint("more", at)})
			got := resumed.ids(20 - at)
			resumed.close()
			for _, e := range events[:at+1] {
				if id := decode[tasks.Result](f, e.data).ID; slices.Contains(got, id) {
					t.Errorf("after event %d result %s comes again", at, id)
				}
			}
		}
		if got := f.listen("last_event_id="+events[19].id+"&outcome=accepted&app="+app, "").ids(1); got[0] != "more0" {
			t.Errorf("by parameter: %v", got)
		}
		f.problem(f.do(http.MethodGet, "/v1/results/stream", "", "Last-Event-ID", openid), http.StatusUnprocessableEntity)
	})
}

// A client hears of results that were cut, of an app that had no task before, and of nothing of
// apps that are not its own; a filter lets the position advance all the same.
func TestResultStreamGapsAndApps(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		f := newFixture(t, rdb)
		f.api.SetStreamTimes(50*time.Millisecond, patience, patience, 50*time.Millisecond)
		f.record("*", tasks.Result{ID: "first"})
		s := f.listen("since=1h", "")
		first, _ := s.next(1)
		for i := range 1000 {
			f.record("*", tasks.Result{ID: fmt.Sprint(i)})
		}
		if err := ledger.New(rdb, ledger.Policy{Retention: time.Hour, StreamMax: 100}).TrimStream(t.Context(), app); err != nil {
			t.Fatal(err)
		}
		resumed := f.listen("", first[0].id)
		if all, _ := resumed.next(2); all[0].name != "gap" || !strings.Contains(all[0].data, `"by_length":true`) || all[1].name != "result" {
			t.Errorf("%+v", all)
		}
		fresh := f.listen("outcome=unknown", "")
		f.record("*", tasks.Result{ID: "new", App: alien, Outcome: tasks.OutcomeUnknown})
		if got := fresh.ids(1); got[0] != "new" {
			t.Errorf("a new app: %v", got)
		}
		at := fresh.lastID()
		f.record("*", tasks.Result{ID: "filtered"})
		redistest.Until(t, patience, "a heartbeat has the new position", func() bool { return fresh.lastID() != at })
		f.as(&apikey.Key{ID: "k", Scopes: []apikey.Scope{apikey.Read}, Apps: []string{other}})
		mine := f.listen("", "")
		f.record("*", tasks.Result{ID: "not mine"})
		f.record("*", tasks.Result{ID: "mine", App: other})
		if got := mine.ids(1); got[0] != "mine" {
			t.Errorf("a key of one app: %v", got)
		}
	})
}

// A stream ends with the server, with its key and at its time, and a client that does not read is
// disconnected: nothing of it remains.
func TestResultStreamEnds(t *testing.T) {
	_, rdb := redistest.Mini(t)
	f := newFixture(t, rdb)
	f.as(&apikey.Key{ID: "k", Scopes: []apikey.Scope{apikey.Read}, Expires: time.Now().Add(300 * time.Millisecond)})
	if _, open := f.listen("", "").next(1); open {
		t.Error("the stream of an expired key goes on")
	}
	f.as(apikey.Local())
	f.api.SetStreamTimes(20*time.Millisecond, 200*time.Millisecond, time.Hour, time.Hour)
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(f.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.(*net.TCPConn).SetReadBuffer(4096)
	if _, err := io.WriteString(conn, "GET /v1/results/stream HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, make([]byte, 100)); err != nil { // it has begun
		t.Fatal(err)
	}
	text := strings.Repeat("x", 4000)
	redistest.Until(t, 2*patience, "the slow client is disconnected", func() bool {
		f.record("*", tasks.Result{ID: "1", ErrMsg: text})
		return f.api.Streams() == 0
	})
	s := f.listen("", "")
	f.record("*", tasks.Result{ID: "last"})
	s.next(1)
	f.api.EndWaits()
	if _, open := s.next(1); open {
		t.Error("the stream goes on after the end of the server")
	}
	redistest.Until(t, patience, "all streams end", func() bool { return f.api.Streams() == 0 })
}

// Redis is asked no more often for a hundred clients than for one.
func TestResultStreamsShareTheReading(t *testing.T) {
	rdb := redistest.Start(t).Client(t)
	f := newFixture(t, rdb)
	f.record("*", tasks.Result{ID: "0"})
	var clients []*eventSource
	perResult := func() float64 {
		counter := redistest.Count(rdb)
		start := time.Now()
		for i := range 5 {
			f.record("*", tasks.Result{ID: fmt.Sprint(i)})
			for _, c := range clients {
				c.next(1)
			}
		}
		polls := time.Since(start).Seconds()*5 + 5 // of the follower, at most: five a second, and after each full page
		return float64(counter.Commands()-10) / polls
	}
	clients = append(clients, f.listen("app="+app, ""))
	one := perResult()
	for range 99 {
		clients = append(clients, f.listen("app="+app, ""))
	}
	hundred := perResult()
	if one > 2 || hundred > 2 { // a poll of one app is two commands
		t.Errorf("commands a poll: %.1f with one client, %.1f with a hundred", one, hundred)
	}
	f.Log(slog.Float64("one", one), slog.Float64("hundred", hundred))
}
