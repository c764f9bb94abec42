// Package standin is a stand-in for WeChat that records when each call arrives, and the arithmetic on
// these arrivals: how many came in a window, and which share of a limit they used.
//
// It is a process of its own, which the program starts with its own binary: see [Serve].
package standin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/wxcourier/wxcourier/bench/clock"
)

// standIn is a stand-in for WeChat that accepts every call after a fixed latency and records its
// arrival time. It does little else: the sandbox validates and records more, and would compete with
// the workers for the CPU.
type standIn struct {
	latency   time.Duration
	tokenWait time.Duration // of the token endpoint

	mu       sync.Mutex
	arrivals []Arrival // guarded by mu
}

// TokenPrefix followed by the app's id is the token of an app.
const TokenPrefix = "bench-"

// answers returns the body of a success by endpoint.
func answers() map[string]string {
	return map[string]string{
		"/wxa/generatescheme":             `{"errcode":0,"errmsg":"ok","openlink":"weixin://dl/business/?t=bench"}`,
		"/cgi-bin/message/subscribe/send": `{"errcode":0,"errmsg":"ok","msgid":3395159288267931652}`,
		"/wxa/msg_sec_check":              `{"errcode":0,"errmsg":"ok","result":{"suggest":"pass","label":100},"trace_id":"bench"}`,
	}
}

func (s *standIn) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /cgi-bin/stable_token", s.token)
	for path, answer := range answers() {
		mux.HandleFunc("POST "+path, func(w http.ResponseWriter, r *http.Request) { s.call(w, r, answer) })
	}
	mux.HandleFunc("GET /bench/arrivals", s.writeArrivals)
	mux.HandleFunc("GET /bench/count", func(w http.ResponseWriter, _ *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		_, _ = fmt.Fprint(w, len(s.arrivals))
	})
	return mux
}

func (s *standIn) token(w http.ResponseWriter, r *http.Request) {
	var q struct {
		App string `json:"appid"`
	}
	if err := json.NewDecoder(io.LimitReader(r.Body, 1<<16)).Decode(&q); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if clock.Pause(r.Context(), s.tokenWait) != nil {
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"access_token": TokenPrefix + q.App, "expires_in": 7200})
}

func (s *standIn) call(w http.ResponseWriter, r *http.Request, answer string) {
	at := clock.Monotonic() // first, before the work below takes time
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		return // the caller has disconnected
	}
	app := strings.TrimPrefix(r.URL.Query().Get("access_token"), TokenPrefix)
	s.mu.Lock()
	s.arrivals = append(s.arrivals, Arrival{At: at, App: app, Key: keyOf(body)})
	s.mu.Unlock()
	if clock.Pause(r.Context(), s.latency) != nil {
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, answer)
}

// writeArrivals writes the arrivals as JSON.
func (s *standIn) writeArrivals(w http.ResponseWriter, _ *http.Request) {
	s.mu.Lock()
	all := s.arrivals[:len(s.arrivals):len(s.arrivals)] // later appends do not change these
	s.mu.Unlock()
	_ = json.NewEncoder(w).Encode(all)
}

// keyMark precedes the task's number in a body.
const keyMark = "k="

// Text returns the text that a task's body must have as one of its JSON strings, so that its
// arrivals have its number.
func Text(key int) string { return keyMark + strconv.Itoa(key) }

// keyOf returns the task's number in the body of a call; -1 when there is none.
func keyOf(body []byte) int {
	_, after, found := bytes.Cut(body, []byte(`"`+keyMark))
	digits, _, closed := bytes.Cut(after, []byte(`"`))
	if !found || !closed || len(digits) == 0 {
		return -1
	}
	n := 0
	for _, d := range digits {
		if d < '0' || d > '9' {
			return -1
		}
		n = 10*n + int(d-'0')
	}
	return n
}

// Serve runs a stand-in until ctx ends. It prints its URL to out. args are the flags -latency and
// -token, the delays of its answers.
func Serve(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("stand-in", flag.ContinueOnError)
	latency := flags.Duration("latency", 0, "delay of each answer")
	token := flags.Duration("token", 0, "delay of each answer with a token")
	if err := flags.Parse(args); err != nil {
		return err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: (&standIn{latency: *latency, tokenWait: *token}).handler(), ReadHeaderTimeout: time.Minute}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if _, err := fmt.Fprintln(out, "http://"+listener.Addr().String()); err != nil {
		return err
	}
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
