package httpserver_test

import (
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/wxcourier/wxcourier/internal/app/httpserver"
	"github.com/wxcourier/wxcourier/internal/redistest"
)

// slowHandler answers a request when answer is closed, and reports on canceled when the request's
// context ends first.
type slowHandler struct{ started, answer, canceled chan struct{} }

func newSlowHandler() slowHandler {
	return slowHandler{make(chan struct{}), make(chan struct{}), make(chan struct{})}
}

func (h slowHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	close(h.started)
	select {
	case <-h.answer:
		_, _ = io.WriteString(w, "the answer")
	case <-r.Context().Done():
		close(h.canceled)
	}
}

func start(t *testing.T, cfg httpserver.Config) *httpserver.Server {
	t.Helper()
	cfg.Address = "127.0.0.1:0"
	s, err := httpserver.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Shutdown)
	return s
}

// get requests the URL in the background.
func get(t *testing.T, url string) (body <-chan string, failed <-chan error) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	bodies, errs := make(chan string, 1), make(chan error, 1)
	go func() {
		response, err := (&http.Client{Transport: &http.Transport{}}).Do(request)
		if err != nil {
			errs <- err
			return
		}
		defer func() { _ = response.Body.Close() }()
		text, err := io.ReadAll(response.Body)
		if err != nil {
			errs <- err
			return
		}
		bodies <- string(text)
	}()
	return bodies, errs
}

// shutDown calls Shutdown in the background, and returns when new connections are refused.
func shutDown(t *testing.T, s *httpserver.Server) (done <-chan struct{}) {
	t.Helper()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.Shutdown()
	}()
	redistest.Until(t, 5*time.Second, "new connections are refused", func() bool {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", s.Addr())
		if err == nil {
			_ = conn.Close()
		}
		return err != nil
	})
	return ended
}

// TestShutdownAnswersRequestsUnderWay: a request that was under way at the shutdown gets its answer,
// while new connections are refused.
func TestShutdownAnswersRequestsUnderWay(t *testing.T) {
	h := newSlowHandler()
	s := start(t, httpserver.Config{Handler: h, ShutdownTimeout: time.Minute})
	body, failed := get(t, s.URL())
	<-h.started
	done := shutDown(t, s)
	select {
	case <-done:
		t.Fatal("the shutdown did not wait for the request")
	default:
	}
	close(h.answer)
	select {
	case text := <-body:
		if text != "the answer" {
			t.Errorf("body %q", text)
		}
	case err := <-failed:
		t.Error(err)
	}
	<-done
	s.Shutdown() // has no effect
}

// TestShutdownCutsRequestsAfterTimeout: a request that exceeds the shutdown timeout is cut, and its
// context ends.
func TestShutdownCutsRequestsAfterTimeout(t *testing.T) {
	h := newSlowHandler()
	s := start(t, httpserver.Config{Handler: h, ShutdownTimeout: 50 * time.Millisecond})
	body, failed := get(t, s.URL())
	<-h.started
	begin := time.Now()
	s.Shutdown()
	if took := time.Since(begin); took < 50*time.Millisecond || took > 5*time.Second {
		t.Errorf("the shutdown took %v", took)
	}
	<-h.canceled
	select {
	case text := <-body:
		t.Errorf("body %q", text)
	case err := <-failed:
		if !errors.Is(err, io.EOF) && !strings.Contains(err.Error(), "reset") {
			t.Errorf("the request failed with %v", err)
		}
	}
}

func TestStartReportsUnusableAddress(t *testing.T) {
	s := start(t, httpserver.Config{Handler: http.NotFoundHandler()})
	_, err := httpserver.Start(t.Context(), httpserver.Config{Address: s.Addr(), Handler: http.NotFoundHandler()})
	if err == nil || !strings.Contains(err.Error(), "listen on "+s.Addr()) {
		t.Errorf("%v", err)
	}
}

func TestURLIsForThisMachine(t *testing.T) {
	s, err := httpserver.Start(t.Context(), httpserver.Config{Address: ":0", Handler: http.NotFoundHandler()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Shutdown()
	if _, port, _ := net.SplitHostPort(s.Addr()); s.URL() != "http://127.0.0.1:"+port {
		t.Errorf("%s for %s", s.URL(), s.Addr())
	}
}
