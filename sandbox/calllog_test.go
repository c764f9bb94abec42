package sandbox

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestCallLogQueries(t *testing.T) {
	s := New(Options{KeepCalls: 4})
	for i := range 3 {
		post(t, s, pathSubscribe, goodBody(pathSubscribe, fmt.Sprintf("o%d", i)))
	}
	post(t, s, pathSubscribe, goodBody(pathSubscribe, "unsubscribed-o1"))
	post(t, s, pathTemplate, goodBody(pathTemplate, "o1"))
	if n := s.Count(Filter{Path: pathSubscribe}); n != 4 {
		t.Errorf("calls: %d", n)
	}
	if n := s.Count(Filter{App: testApp, Path: pathSubscribe, Delivered: true}); n != 3 {
		t.Errorf("delivered: %d", n)
	}
	if n := s.Count(Filter{ErrCodes: []int{43101, 47003}}); n != 1 {
		t.Errorf("refused: %d", n)
	}
	if n := s.Count(Filter{App: "wx1"}); n != 0 {
		t.Errorf("of another app: %d", n)
	}
	for target, want := range map[string]CallCount{"": {2, 2}, pathSubscribe: {1, 1}, pathTemplate: {1, 1}, "T1": {2, 2}, "T2": {}} {
		if got := s.CallCount(testApp, "o1", target); got != want {
			t.Errorf("o1, %q: %+v, want %+v", target, got, want)
		}
	}
	if got := s.CallCount(testApp, "unsubscribed-o1", ""); got != (CallCount{Calls: 1}) {
		t.Errorf("refused: %+v", got)
	}
	calls := s.Calls(Filter{})
	if len(calls) != 4 || calls[3].Seq != 10 || calls[3].Path != pathTemplate || !strings.Contains(string(calls[3].Body), `"touser":"o1"`) {
		t.Errorf("kept calls: %+v", calls)
	}
	if n := s.Count(Filter{OpenID: "o1"}); n != 1 {
		t.Errorf("kept calls to o1: %d", n)
	}
	if counts := s.Counts(); len(counts) != 4 || counts[0].Path != pathSubscribe || counts[0].Calls != 3 || counts[1].ErrCode != 43101 {
		t.Errorf("counts: %+v", counts)
	}
	s.Reset()
	if len(s.Counts()) != 0 || s.Calls(Filter{}) != nil || s.CallCount(testApp, "o1", "").Calls != 0 || s.TokensIssued(testApp, Stable) != 0 {
		t.Error("Reset left some state")
	}
}

// Many concurrent calls: all are counted, and the kept calls bound the memory.
func TestManyCalls(t *testing.T) {
	calls := 100_000
	if testing.Short() {
		calls = 5_000
	}
	s := New(Options{KeepCalls: 1000})
	token := stableToken(t, s)
	heap := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc) //nolint:gosec // fits in an int64
	}
	before, started := heap(), time.Now()
	const callers = 16
	var group sync.WaitGroup
	for c := range callers {
		group.Go(func() {
			for i := c; i < calls; i += callers {
				body := goodBody(pathSubscribe, fmt.Sprintf("o%d", i))
				r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, pathSubscribe+"?access_token="+token, strings.NewReader(body))
				s.ServeHTTP(httptest.NewRecorder(), r)
			}
		})
	}
	group.Wait()
	t.Logf("%d calls in %v, heap grew by %d KB", calls, time.Since(started), (heap()-before)/1024)
	if n := s.Count(Filter{Path: pathSubscribe, Delivered: true}); n != calls || len(s.Duplicates()) != 0 {
		t.Errorf("%d of %d delivered, %d twice", n, calls, len(s.Duplicates()))
	}
	if grown := heap() - before; grown > 64<<20 {
		t.Errorf("the heap grew by %d MB", grown>>20)
	}
	if s.Peak(testApp, pathSubscribe).Minute < min(calls, 1000) {
		t.Errorf("peak %+v", s.Peak(testApp, pathSubscribe))
	}
}

func BenchmarkSubscribe(b *testing.B) {
	s := New(Options{})
	r := httptest.NewRequestWithContext(b.Context(), http.MethodGet, pathToken+"?grant_type=client_credential&appid="+testApp+"&secret=x", nil)
	s.ServeHTTP(httptest.NewRecorder(), r)
	target, body := pathSubscribe+"?access_token="+s.Tokens(testApp)[0].Value, goodBody(pathSubscribe, "o1")
	for b.Loop() {
		s.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(b.Context(), http.MethodPost, target, strings.NewReader(body)))
	}
}
