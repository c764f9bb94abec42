package gateway

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// deadlines is a connection that keeps its deadlines.
type deadlines struct {
	*httptest.ResponseRecorder
	read, write time.Time
}

func (d *deadlines) SetReadDeadline(t time.Time) error  { d.read = t; return nil }
func (d *deadlines) SetWriteDeadline(t time.Time) error { d.write = t; return nil }

// bare returns a gateway that only has its layers, around a handler.
func bare(log *slog.Logger, next http.HandlerFunc) http.Handler {
	g := &Gateway{metrics: newMetrics(nil), deps: Deps{Log: log}}
	return g.observed(limited(next))
}

// steady is a body that takes a time for each byte.
type steady struct {
	pause time.Duration
	left  int
}

func (s *steady) Read(p []byte) (int, error) {
	if s.left == 0 {
		return 0, io.EOF
	}
	time.Sleep(s.pause)
	s.left--
	p[0] = 'x'
	return 1, nil
}

// TestDeadlinesMove: the deadlines of a request move while bytes come and go, so that a long body
// and a long stream are not cut; while a handler waits there is none.
func TestDeadlinesMove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := &deadlines{ResponseRecorder: httptest.NewRecorder(), write: time.Now().Add(time.Second)}
		const pause = 2 * time.Second
		in := func(d time.Duration) time.Time { return time.Now().Add(d) }
		handler := bare(slog.New(slog.DiscardHandler), func(w http.ResponseWriter, r *http.Request) {
			if !conn.write.IsZero() {
				t.Error("the deadline of the previous request's answer is still there")
			}
			if !conn.read.Equal(in(stallTimeout)) {
				t.Errorf("before the first read: %v", conn.read)
			}
			for {
				_, err := r.Body.Read(make([]byte, 10))
				if err == io.EOF {
					break
				}
				if left := time.Until(conn.read); left < stallTimeout-extendEvery-2*pause || left > stallTimeout {
					t.Fatalf("%v are left after a byte", left)
				}
			}
			if !conn.read.IsZero() {
				t.Errorf("after the body: %v", conn.read)
			}
			time.Sleep(time.Hour)
			for range 3 {
				time.Sleep(time.Minute)
				_, _ = io.WriteString(w, "event\n")
				if !conn.write.Equal(in(stallTimeout)) {
					t.Errorf("after a write: %v", conn.write)
				}
				if err := http.NewResponseController(w).Flush(); err != nil {
					t.Error(err)
				}
			}
			time.Sleep(time.Minute)
		})
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/v1/x", &steady{pause, 100})
		handler.ServeHTTP(conn, r)
		if !conn.write.Equal(in(stallTimeout)) {
			t.Errorf("at the end: %v", conn.write)
		}
	})
}

// TestPanics: a panic becomes an answer 500, or cuts an answer that had begun; its value is not
// logged.
func TestPanics(t *testing.T) {
	for _, tt := range []struct {
		name    string
		handler http.HandlerFunc
		want    int
		aborts  bool
		logged  bool
	}{
		{"before the answer", func(http.ResponseWriter, *http.Request) { panic("oSecretPerson") }, 500, false, true},
		{"an error", func(http.ResponseWriter, *http.Request) { panic(errors.New("oSecretPerson")) }, 500, false, true},
		{"in the answer", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "{"); panic("oSecretPerson") }, 200, true, true},
		{"on purpose", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, 200, true, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var logged bytes.Buffer
			w := httptest.NewRecorder()
			aborted := func() (p any) {
				defer func() { p = recover() }()
				bare(slog.New(slog.NewTextHandler(&logged, nil)), tt.handler).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", "/", nil))
				return nil
			}()
			if w.Code != tt.want || (aborted != nil) != tt.aborts || strings.Contains(logged.String(), "a request panicked") != tt.logged {
				t.Errorf("%d, %v\n%s", w.Code, aborted, &logged)
			}
			if strings.Contains(logged.String()+w.Body.String(), "oSecretPerson") {
				t.Errorf("the value is shown: %s%s", w.Body, &logged)
			}
			if tt.logged && !strings.Contains(logged.String(), "limits_internal_test.go") {
				t.Errorf("no stack: %s", &logged)
			}
		})
	}
}
