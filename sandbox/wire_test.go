package sandbox

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// startedSandbox is a sandbox on a port, with a client that opens a connection for each call, so that the client never retries by
// itself.
type startedSandbox struct {
	s          *Server
	stop       func()
	url, token string
	client     *http.Client
}

func startSandbox(t *testing.T, opts Options) *startedSandbox {
	t.Helper()
	s := New(opts)
	url, stop := s.Start()
	t.Cleanup(stop)
	transport := &http.Transport{DisableKeepAlives: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &startedSandbox{s, stop, url, stableToken(t, s), &http.Client{Transport: transport}}
}

// send returns the answer, or the error of the transport or of reading the body.
func (o *startedSandbox) send(ctx context.Context, t *testing.T, path, body string) (answer, error) {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, o.url+path+"?access_token="+o.token, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if strings.HasPrefix(body, "--") {
		r.Header.Set("Content-Type", "multipart/form-data; boundary=b0und")
	}
	res, err := o.client.Do(r)
	if err != nil {
		return answer{}, err
	}
	raw, err := io.ReadAll(res.Body)
	_ = res.Body.Close()
	if err != nil {
		return answer{status: res.StatusCode, raw: string(raw)}, err
	}
	res.Body = io.NopCloser(strings.NewReader(string(raw)))
	return readAnswer(t, res), nil
}

// Every connection fault on every endpoint: what the client observes and what the call log contains.
func TestConnectionFaults(t *testing.T) {
	tests := []struct {
		name      string
		delivered bool
		check     func(answer, error) bool
	}{
		{"reset", false, func(_ answer, err error) bool { return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, io.EOF) }},
		{"lost", true, func(_ answer, err error) bool { return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, io.EOF) }},
		{"cut", true, func(a answer, err error) bool {
			return errors.Is(err, io.ErrUnexpectedEOF) && a.status == 200 && a.raw != ""
		}},
		{"garbage", false, func(a answer, err error) bool {
			return err == nil && a.status == 200 && strings.HasPrefix(a.raw, "<html>")
		}},
		{"badgateway", false, func(a answer, err error) bool {
			return err == nil && a.status == 502 && strings.HasPrefix(a.raw, "<html>")
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := startSandbox(t, Options{AllowUniform: true})
			for path := range goodBodies() {
				a, err := o.send(t.Context(), t, path, faultyBody(path, tt.name))
				if !tt.check(a, err) {
					t.Errorf("%s: %d %.80q %v", path, a.status, a.raw, err)
				}
				calls := o.s.Calls(Filter{Path: path})
				if len(calls) != 1 || calls[0].Delivered != tt.delivered || calls[0].Fault != tt.name || (calls[0].ErrCode == Unanswered) == tt.delivered {
					t.Errorf("%s: call log %+v", path, calls)
				}
				if a, err := o.send(t.Context(), t, path, faultyBody(path, tt.name)); err != nil || a.status != 200 || a.ErrCode != 0 {
					t.Errorf("%s, second call: %d %v", path, a.status, err)
				}
			}
			var twice []string
			for _, d := range o.s.Duplicates() {
				twice = append(twice, d.Path)
			}
			want := []string{pathBizSubscribe, pathCustom, pathSubscribe, pathTemplate, pathUniform}
			slices.Sort(want)
			if !tt.delivered {
				want = nil
			}
			if !slices.Equal(twice, want) {
				t.Errorf("delivered twice: %v", twice)
			}
		})
	}
}

func TestHangingFaults(t *testing.T) {
	for name, delivered := range map[string]bool{"hang": false, "hangafter": true} {
		t.Run(name, func(t *testing.T) {
			o := startSandbox(t, Options{})
			ctx, giveUp := context.WithCancel(t.Context())
			failed := make(chan error, 1)
			go func() {
				_, err := o.send(ctx, t, pathSubscribe, faultyBody(pathSubscribe, name))
				failed <- err
			}()
			waitFor(t, "the call", func() bool { return o.s.Count(Filter{Path: pathSubscribe}) == 1 })
			giveUp()
			if err := <-failed; !errors.Is(err, context.Canceled) {
				t.Errorf("the client got %v", err)
			}
			waitFor(t, "the sandbox to notice", func() bool {
				o.s.mu.Lock()
				defer o.s.mu.Unlock()
				return len(o.s.state.log.pending) == 0
			})
			if c := o.s.Calls(Filter{Path: pathSubscribe})[0]; c.Delivered != delivered || c.Answered {
				t.Errorf("call log %+v", c)
			}
		})
	}
	t.Run("stop ends the call", func(t *testing.T) {
		o := startSandbox(t, Options{})
		failed := make(chan error, 1)
		go func() {
			_, err := o.send(context.Background(), t, pathCustom, faultyBody(pathCustom, "hang"))
			failed <- err
		}()
		waitFor(t, "the call", func() bool { return o.s.Count(Filter{Path: pathCustom}) == 1 })
		o.stop()
		o.stop()
		if err := <-failed; err == nil {
			t.Error("a hanging call was answered")
		}
	})
}

func TestConcurrentSendsToOneOpenID(t *testing.T) {
	for allowed, during := range map[bool]int{false: 43108, true: 0} {
		o := startSandbox(t, Options{AllowConcurrent: allowed})
		send := func(path, openid string) int {
			return do(t, o.s, "POST", path+"?access_token="+o.token, goodBody(path, openid)).ErrCode
		}
		o.s.SetLatency(time.Hour)
		ctx, giveUp := context.WithCancel(t.Context())
		failed := make(chan error, 1)
		go func() {
			_, err := o.send(ctx, t, pathSubscribe, goodBody(pathSubscribe, "o1"))
			failed <- err
		}()
		waitFor(t, "the first call", func() bool { return o.s.Count(Filter{Path: pathSubscribe}) == 1 })
		o.s.SetLatency(0)
		if got := send(pathSubscribe, "o1"); got != during {
			t.Errorf("allowed %t, at once: %d, want %d", allowed, got, during)
		}
		if send(pathSubscribe, "o2") != 0 || send(pathCustom, "o1") != 0 {
			t.Error("another openid or endpoint is blocked")
		}
		giveUp()
		if err := <-failed; err == nil {
			t.Error("the first call was answered")
		}
		waitFor(t, "the openid", func() bool { return send(pathSubscribe, "o1") == 0 })
		if got, want := o.s.Delivered(testApp, "o1", pathSubscribe), o.s.Count(Filter{OpenID: "o1", Path: pathSubscribe, ErrCodes: []int{0}}); got != want {
			t.Errorf("delivered %d of %d", got, want)
		}
	}
}
