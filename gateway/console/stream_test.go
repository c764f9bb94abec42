package console

import (
	"bufio"
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/hold"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/tasks"
)

// listener is a page that is kept up to date.
type listener struct {
	*user
	events chan [2]string // name and data
}

// listen opens the stream of events of the overview.
func (u *user) listen() *listener {
	u.Helper()
	r, err := http.NewRequestWithContext(u.Context(), http.MethodGet, u.server.URL+"/", nil)
	if err != nil {
		u.Fatal(err)
	}
	r.Header.Set("Accept", "text/event-stream")
	r.Header.Set("Accept-Language", u.lang)
	res, err := u.client.Do(r) //nolint:bodyclose // below
	if err != nil {
		u.Fatal(err)
	}
	if res.StatusCode != http.StatusOK || res.Header.Get("Content-Type") != "text/event-stream" {
		_ = res.Body.Close()
		u.Fatalf("status %d, %s", res.StatusCode, res.Header.Get("Content-Type"))
	}
	l := &listener{u, make(chan [2]string, 1000)}
	go func() {
		defer close(l.events)
		defer func() { _ = res.Body.Close() }()
		var name string
		var data []string
		lines := bufio.NewScanner(res.Body)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			line := lines.Text()
			switch {
			case strings.HasPrefix(line, "event: "):
				name, data = strings.TrimPrefix(line, "event: "), nil
			case strings.HasPrefix(line, "data: "):
				data = append(data, strings.TrimPrefix(line, "data: "))
			case line == "" && name != "":
				l.events <- [2]string{name, strings.Join(data, "\n")}
				name = ""
			}
		}
	}()
	return l
}

// wait waits for an event, and returns its data.
func (l *listener) wait(name string) string {
	l.Helper()
	timeout := time.After(patience)
	for {
		select {
		case e, ok := <-l.events:
			if !ok {
				l.Fatalf("the stream ended, without the event %s", name)
			}
			if e[0] == name {
				return e[1]
			}
		case <-timeout:
			l.Fatalf("no event %s", name)
		}
	}
}

// closed waits for the end of the stream.
func (l *listener) closed() {
	l.Helper()
	timeout := time.After(patience)
	for {
		select {
		case _, ok := <-l.events:
			if !ok {
				return
			}
		case <-timeout:
			l.Fatal("the stream does not end")
		}
	}
}

// TestStream sends the part of the page that changes, when it has changed, and ends with a shutdown.
func TestStream(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		s := newSite(t, rdb)
		l := s.as(readKey).listen()
		if first := l.wait("live"); strings.Contains(first, "<html") || !strings.Contains(first, "Nothing stands still") {
			t.Errorf("the first event: %s", first)
		}
		if _, err := s.Holds.Set(t.Context(), hold.Hold{App: testApp, Scope: tasks.TypeSubscribe, Reason: script, Until: time.Now().Add(time.Hour), By: "me"}); err != nil {
			t.Fatal(err)
		}
		second := l.wait("live")
		if !strings.Contains(second, "&lt;script&gt;x") || strings.Contains(second, script) {
			t.Errorf("the second event: %s", second)
		}
		s.console.Drain()
		l.closed()
		s.console.Drain() // again
		if a := s.as(readKey).stream("/"); a.status != http.StatusServiceUnavailable {
			t.Errorf("a stream after the shutdown began: status %d", a.status)
		}
	})
}

// stream asks for events, and returns an answer that is none.
func (u *user) stream(path string) answered {
	r, err := http.NewRequestWithContext(u.Context(), http.MethodGet, u.server.URL+path, nil)
	if err != nil {
		u.Fatal(err)
	}
	r.Header.Set("Accept", "text/event-stream")
	return u.do(r)
}

// TestStreamWithoutRedis tells that the page is stale, and goes on afterwards.
func TestStreamWithoutRedis(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr(), MaxRetries: -1, DialerRetries: 1})
	t.Cleanup(func() { _ = rdb.Close() })
	s := newSite(t, rdb)
	l := s.as(readKey).listen()
	l.wait("live")
	server.Kill()
	l.wait("stale")
	server.Restart()
	l.wait("live")
}

// TestUnchanged sends nothing while nothing changes but countdowns.
func TestUnchanged(t *testing.T) {
	w := &recorder{ResponseWriter: nil}
	e := &events{w: w, control: http.NewResponseController(w), sent: time.Now()}
	e.change("live", []byte(`<p>a <time class="until" data-until="5">in 5 s</time></p>`))
	e.change("live", []byte(`<p>a <time class="until" data-until="5">in 4 s</time></p>`))
	if n := strings.Count(w.text.String(), "event: live"); n != 1 || e.err != nil {
		t.Errorf("%d events, error %v", n, e.err)
	}
	e.sent = time.Now().Add(-heartbeatEvery)
	e.change("live", []byte(`<p>a <time class="until" data-until="5">in 3 s</time></p>`))
	if !strings.HasSuffix(w.text.String(), ": nothing new\n\n") {
		t.Errorf("no heartbeat: %q", w.text.String())
	}
	e.change("live", []byte("<p>b\nc</p>"))
	if !strings.HasSuffix(w.text.String(), "event: live\ndata: <p>b\ndata: c</p>\n\n") {
		t.Errorf("no change: %q", w.text.String())
	}
}

// recorder is a http.ResponseWriter that keeps what was written.
type recorder struct {
	http.ResponseWriter
	text strings.Builder
}

func (r *recorder) Write(p []byte) (int, error) { return r.text.Write(p) }
func (r *recorder) FlushError() error           { return nil }

// TestManyViewers: twenty pages that are kept up to date cost as many commands as one.
func TestManyViewers(t *testing.T) {
	t.Parallel()
	_, rdb := redistest.Mini(t)
	count := redistest.Count(rdb)
	var rounds [2][2]int64 // commands of the first and the second reading, for one viewer and for twenty
	for i, viewers := range []int{1, 20} {
		s := newSite(t, rdb)
		var ahead atomic.Int64
		start := time.Now()
		s.console.cache.now = func() time.Time { return start.Add(time.Duration(ahead.Load())) }
		users := make([]*user, viewers)
		for j := range users {
			users[j] = s.as(readKey)
		}
		for round := range rounds[i] {
			rounds[i][round], _ = count.During(func() {
				var all sync.WaitGroup
				for _, u := range users {
					all.Go(func() { u.listen().wait("live") })
				}
				all.Wait()
				if a := users[0].get("/"); a.status != http.StatusOK {
					t.Errorf("status %d", a.status)
				}
			})
			ahead.Store(int64(time.Hour))
		}
		s.console.Drain()
	}
	if one, many := rounds[0], rounds[1]; one != many || one[0] == 0 || one[1] == 0 {
		t.Errorf("commands of two readings: %v for one viewer, %v for twenty", one, many)
	}
}

// TestShared reads once for all that ask at the same time, and again later: also after an error or a
// panic, and for others when the first one has gone.
func TestShared(t *testing.T) {
	t.Parallel()
	c := &Console{cache: newCache()}
	now := time.Now()
	c.cache.now = func() time.Time { return now }
	reads := 0
	read := func(ctx context.Context) (int, error) {
		return shared(ctx, c, "x", func(ctx context.Context) (int, error) {
			switch reads++; {
			case ctx.Err() != nil:
				return 0, ctx.Err()
			case reads == 3:
				return 0, errSession
			case reads == 4:
				panic("x")
			}
			return reads, nil
		})
	}
	gone, leave := context.WithCancel(t.Context())
	leave()
	for i, want := range []struct {
		n   int
		err error
	}{{1, nil}, {1, nil}, {2, nil}, {0, errSession}, {0, errNotRead}, {5, nil}} {
		ctx := t.Context()
		if i == 0 {
			ctx = gone // reads all the same
		}
		if i >= 2 {
			now = now.Add(sharing)
		}
		func() {
			defer func() {
				if recover() != nil && i != 4 {
					t.Errorf("reading %d panicked", i)
				}
			}()
			if n, err := read(ctx); i > 0 && (n != want.n || !errors.Is(err, want.err)) {
				t.Errorf("reading %d: %d, error %v", i, n, err)
			}
		}()
		if i == 4 {
			if _, err := read(ctx); !errors.Is(err, errNotRead) {
				t.Errorf("after a panic: %v", err)
			}
		}
	}
	for i := range 3 * maxReadings {
		now = now.Add(time.Second)
		if _, err := shared(t.Context(), c, strconv.Itoa(i), func(context.Context) (int, error) { return i, nil }); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(c.cache.readings); n > maxReadings+1 {
		t.Errorf("%d readings are kept", n)
	}
	slow := &reading{done: make(chan struct{}), at: now, took: time.Second}
	close(slow.done)
	if slow.over(now.Add(maxPause-1), sharing) || !slow.over(now.Add(maxPause), sharing) {
		t.Error("a reading that takes a second is made again too soon, or too late")
	}
}
