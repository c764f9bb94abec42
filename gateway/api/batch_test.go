package api_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/apikey"
	"github.com/wxcourier/wxcourier/internal/problem"
	"github.com/wxcourier/wxcourier/internal/redistest"
)

// batchLine is a line of the answer to POST /v1/tasks:batch.
type batchLine struct {
	Line, Status int
	App, ID      string
	Already      bool
	Differs      bool
	Detail       string
	Errors       []problem.Fault
	Summary      *batchSummary
}

type batchSummary struct {
	Lines, Enqueued, Already, Differs, Faults int
	NotEnqueued                               int `json:"not_enqueued"`
	Error                                     string
}

// lines decodes the answer to a batch.
func (f *fixture) lines(a answer) (lines []batchLine, summary batchSummary) {
	f.Helper()
	if got := a.header.Get("Content-Type"); got != "application/x-ndjson" {
		f.Fatalf("%d %s: %s", a.status, got, a.body)
	}
	d := json.NewDecoder(strings.NewReader(a.body))
	d.UseNumber()
	for d.More() {
		var l batchLine
		if err := d.Decode(&l); err != nil {
			f.Fatal(err)
		}
		if l.Summary != nil {
			if d.More() {
				f.Error("the summary is not the last line")
			}
			return lines, *l.Summary
		}
		lines = append(lines, l)
	}
	f.Fatalf("no summary:\n%s", a.body)
	return nil, batchSummary{}
}

func TestBatchAnswersEachLine(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		f := newFixture(t, rdb)
		f.do(http.MethodPost, "/v1/tasks", envelope("known"))
		f.do(http.MethodPost, "/v1/tasks", envelope("other"))
		body := strings.Join([]string{
			envelope("1"), "", envelope("1"), envelope("known"), envelopeOf(app, "other", "another"), `{"type":`, envelopeOf(alien, "2", "x"),
			`{"type":"send:custom","app":"` + app + `","id":"3","body":{"touser":"` + openid + `"}}`, envelope(""), envelope(""), envelopeOf(other, "4", "x"),
		}, "\n")
		a := f.do(http.MethodPost, "/v1/tasks:batch", body)
		lines, sum := f.lines(a)
		var got []string
		for _, l := range lines {
			got = append(got, fmt.Sprintf("%d:%d", l.Line, l.Status))
		}
		if want := "1:202 3:200 4:200 5:200 6:422 7:422 8:422 9:202 10:202 11:202"; a.status != http.StatusOK || strings.Join(got, " ") != want {
			t.Errorf("%d\n%s\n%s", a.status, strings.Join(got, " "), want)
		}
		if want := (batchSummary{Lines: 10, Enqueued: 4, Already: 3, Differs: 1, Faults: 3}); sum != want {
			t.Errorf("%+v", sum)
		}
		if l := lines[6]; l.ID != "3" || l.App != app || len(l.Errors) == 0 || l.Errors[0].Location != "body.msgtype" {
			t.Errorf("a fault: %+v", l)
		}
		if l := lines[5]; !strings.Contains(a.body, "not a configured app") || l.App != alien {
			t.Errorf("an app that is not configured: %+v", l)
		}
		// Again: nothing is enqueued twice, also without ids.
		a = f.do(http.MethodPost, "/v1/tasks:batch?results=faults", body)
		lines, sum = f.lines(a)
		if want := (batchSummary{Lines: 10, Already: 7, Differs: 1, Faults: 3}); sum != want || len(lines) != 4 {
			t.Errorf("again: %+v, %d lines", sum, len(lines))
		}
	})
}

func TestBatchChecksTheAppOfEachLine(t *testing.T) {
	_, rdb := redistest.Mini(t)
	f := newFixture(t, rdb)
	f.as(&apikey.Key{ID: "k", Scopes: []apikey.Scope{apikey.Enqueue}, Apps: []string{other}})
	lines, _ := f.lines(f.do(http.MethodPost, "/v1/tasks:batch", envelope("1")+"\n"+envelopeOf(other, "2", "x")))
	if len(lines) != 2 || lines[0].Status != http.StatusForbidden || lines[1].Status != http.StatusAccepted {
		t.Errorf("%+v", lines)
	}
	f.problem(f.do(http.MethodPost, "/v1/tasks:batch?results=some", ""), http.StatusUnprocessableEntity)
}

// generated returns a body of n lines, of which the one with the number bad is no task.
func generated(n, bad int) io.Reader {
	at := 0
	var rest []byte
	return readerFunc(func(p []byte) (int, error) {
		if len(rest) == 0 {
			if at == n {
				return 0, io.EOF
			}
			if at++; at == bad {
				rest = []byte(message + "\n")
			} else {
				rest = []byte(envelope(fmt.Sprintf("l-%d", at)) + "\n")
			}
		}
		copied := copy(p, rest)
		rest = rest[copied:]
		return copied, nil
	})
}

type readerFunc func([]byte) (int, error)

func (r readerFunc) Read(p []byte) (int, error) { return r(p) }

// TestOneBadLineInTenThousand: it is reported, and all others are enqueued.
func TestOneBadLineInTenThousand(t *testing.T) {
	f := newFixture(t, redistest.Start(t).Client(t))
	a, err := f.try(http.MethodPost, "/v1/tasks:batch?results=faults", generated(10_000, 7_777))
	if err != nil {
		t.Fatal(err)
	}
	lines, sum := f.lines(a)
	if len(lines) != 1 || lines[0].Line != 7_777 || lines[0].Status != http.StatusUnprocessableEntity || sum.Enqueued != 9_999 {
		t.Errorf("%+v %+v", lines, sum)
	}
	if n := f.pending(); n != 9_999 {
		t.Errorf("%d tasks wait", n)
	}
}

func TestCompressedBatch(t *testing.T) {
	_, rdb := redistest.Mini(t)
	f := newFixture(t, rdb)
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = io.Copy(w, generated(1_000, 0))
	_ = w.Close()
	whole := b.String()
	if _, sum := f.lines(f.do(http.MethodPost, "/v1/tasks:batch", whole, "Content-Encoding", "gzip")); sum.Enqueued != 1_000 {
		t.Errorf("%+v", sum)
	}
	a := f.do(http.MethodPost, "/v1/tasks:batch", whole[:len(whole)/2], "Content-Encoding", "gzip")
	if _, sum := f.lines(a); a.status != http.StatusBadRequest || sum.Error == "" || sum.Enqueued > 0 || sum.Already == 0 {
		t.Errorf("half of it: %d %+v", a.status, sum)
	}
	if a := f.do(http.MethodPost, "/v1/tasks:batch", whole, "Content-Encoding", "br"); a.status != http.StatusUnsupportedMediaType {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// TestBatchBreaksOff: of a body that breaks off, what was read is enqueued, and repeating it
// enqueues the rest only.
func TestBatchBreaksOff(t *testing.T) {
	f := newFixture(t, redistest.Start(t).Client(t))
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(f.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	body := new(strings.Builder)
	_, _ = io.Copy(body, generated(3_000, 0))
	_, err = fmt.Fprintf(conn, "POST /v1/tasks:batch HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s", body.Len()+1000, body.String()+`{"type":"send:custom","app":`)
	if err != nil {
		t.Fatal(err)
	}
	redistest.Until(t, 20*time.Second, "the lines are enqueued", func() bool { return f.pending() == 3_000 })
	_ = conn.Close()
	redistest.Until(t, 20*time.Second, "the end is logged", func() bool { return strings.Contains(f.log.String(), "broke off") })
	a, err := f.try(http.MethodPost, "/v1/tasks:batch", generated(3_500, 0))
	if err != nil {
		t.Fatal(err)
	}
	if _, sum := f.lines(a); sum.Enqueued != 500 || sum.Already != 3_000 || f.pending() != 3_500 {
		t.Errorf("%+v, %d wait", sum, f.pending())
	}
}

// TestRedisGoneInABatch: each line has an answer, those that are not enqueued say so, and
// repeating the batch enqueues exactly the rest.
func TestRedisGoneInABatch(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
	f := newFixture(t, impatient(t, server))
	const n = 4_000
	lines := generated(n, 0)
	var sent atomic.Int64
	a, err := f.try(http.MethodPost, "/v1/tasks:batch", readerFunc(func(p []byte) (int, error) {
		if sent.Add(1) == n/2 {
			redistest.Until(t, 20*time.Second, "some lines are enqueued", func() bool { return f.pending() >= 1_500 })
			server.Kill()
		}
		return lines.Read(p)
	}))
	if err != nil {
		t.Fatal(err)
	}
	answered, sum := f.lines(a)
	if a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" || sum.Error == "" {
		t.Errorf("%d %v %+v", a.status, a.header, sum)
	}
	if len(answered) != n || sum.Lines != n || sum.Enqueued+sum.NotEnqueued != n || sum.Enqueued == 0 || sum.NotEnqueued < n/3 {
		t.Errorf("%d answers, %+v", len(answered), sum)
	}
	for i, l := range answered {
		if l.Line != i+1 || l.ID == "" {
			t.Fatalf("answer %d: %+v", i, l)
		}
	}
	server.Restart()
	redistest.Until(t, 20*time.Second, "Redis works again", func() bool { return f.rdb.Ping(t.Context()).Err() == nil })
	a, err = f.try(http.MethodPost, "/v1/tasks:batch", generated(n, 0))
	if err != nil {
		t.Fatal(err)
	}
	if _, again := f.lines(a); again.Enqueued+again.Already != n || again.Enqueued > sum.NotEnqueued || f.pending() != n {
		t.Errorf("again %+v, %d wait", again, f.pending())
	}
}
