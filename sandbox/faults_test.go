package sandbox

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// overTheWire is a started sandbox with a client that opens a connection for each call, so that no call is repeated by the
// client on its own.
type overTheWire struct {
	s      *Server
	url    string
	client *http.Client
}

func startSandbox(t *testing.T, opts Options) *overTheWire {
	t.Helper()
	s := New(opts)
	url, stop := s.Start()
	t.Cleanup(stop)
	transport := &http.Transport{DisableKeepAlives: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &overTheWire{s, url, &http.Client{Transport: transport}}
}

// send returns the answer, or the error of the transport or of reading the body.
func (o *overTheWire) send(ctx context.Context, t *testing.T, path, body string) (answer, error) {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, o.url+path+"?access_token="+stableToken(t, o.s), strings.NewReader(body))
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
	return read(t, res), nil
}

// carriers is how each endpoint is told of a fault.
func carriers(path, fault string) string {
	switch path {
	case pathScheme:
		return goodBody(path, fault+"-1=1")
	case pathURLLink:
		return goodBody(path, "fault="+fault+"&id=1")
	case pathCode, pathQRCode:
		return goodBody(path, fault+"&id=1")
	case pathImageCheck:
		return upload("upload", tinyPNG+imageFaultMark+fault+";")
	default:
		return goodBody(path, fault+"-oAbc")
	}
}

func TestRefusingFaults(t *testing.T) {
	for _, row := range faultRows() {
		if row.manner != mannerRefuse && row.manner != mannerRevoke {
			continue
		}
		t.Run(row.name, func(t *testing.T) {
			for path := range goodBodies() {
				s := New(Options{AllowUniform: true})
				want := []int{row.code, 0, 0}
				if row.lasting {
					want = []int{row.code, row.code, row.code}
				}
				var got []int
				for range 3 {
					got = append(got, post(t, s, path, carriers(path, row.name)).ErrCode)
				}
				if !slices.Equal(got, want) {
					t.Errorf("%s: %v, want %v", path, got, want)
				}
				got = nil
				for range 3 {
					got = append(got, post(t, s, path, carriers(path, row.name+"2")).ErrCode)
				}
				if want = []int{row.code, row.code, 0}; !slices.Equal(got, want) {
					t.Errorf("%s, twice: %v, want %v", path, got, want)
				}
				if calls := s.Calls(Filter{Path: path}); calls[0].Fault != row.name || calls[0].Delivered || !calls[0].Answered || !calls[5].Delivered {
					t.Errorf("%s: ledger %+v", path, calls)
				}
			}
		})
	}
}

func TestTokenFaultRevokes(t *testing.T) {
	s := New(Options{})
	one := stableToken(t, s)
	if a := post(t, s, pathSubscribe, carriers(pathSubscribe, "token")); a.ErrCode != 40001 {
		t.Errorf("first call: %s", a.raw)
	}
	if use(t, s, one) != 40001 || stableToken(t, s) == one || s.TokensIssued(testApp, Stable) != 2 {
		t.Error("the token was not revoked")
	}
}

func TestRiskyFault(t *testing.T) {
	s := New(Options{})
	if a := post(t, s, pathTextCheck, carriers(pathTextCheck, "risky")); a.ErrCode != 0 || a.Result != (verdict{"risky", labelIllegal}) {
		t.Errorf("text: %s", a.raw)
	}
	if a := post(t, s, pathTextCheck, `{"content":"x","openid":"risky-o1"}`); a.ErrCode != 87014 {
		t.Errorf("text, version 1: %s", a.raw)
	}
	for _, body := range []string{carriers(pathImageCheck, "risky"), upload("risky-1.png", tinyPNG)} {
		if a := post(t, s, pathImageCheck, body); a.ErrCode != 87014 {
			t.Errorf("image: %s", a.raw)
		}
	}
	if a := post(t, s, pathCustom, carriers(pathCustom, "risky")); a.ErrCode != 0 {
		t.Errorf("a message to somebody risky: %s", a.raw)
	}
}

// Every fault of the connection, on every endpoint: what the caller meets and what the ledger holds.
func TestFaultsOfTheConnection(t *testing.T) {
	tests := []struct {
		name      string
		delivered bool
		met       func(answer, error) bool
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
				a, err := o.send(t.Context(), t, path, carriers(path, tt.name))
				if !tt.met(a, err) {
					t.Errorf("%s: %d %.80q %v", path, a.status, a.raw, err)
				}
				calls := o.s.Calls(Filter{Path: path})
				if len(calls) != 1 || calls[0].Delivered != tt.delivered || calls[0].Fault != tt.name || (calls[0].ErrCode == Unanswered) == tt.delivered {
					t.Errorf("%s: ledger %+v", path, calls)
				}
				if a, err := o.send(t.Context(), t, path, carriers(path, tt.name)); err != nil || a.status != 200 || a.ErrCode != 0 {
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
				_, err := o.send(ctx, t, pathSubscribe, carriers(pathSubscribe, name))
				failed <- err
			}()
			waitFor(t, "the call", func() bool { return o.s.Count(Filter{Path: pathSubscribe}) == 1 })
			giveUp()
			if err := <-failed; !errors.Is(err, context.Canceled) {
				t.Errorf("the caller met %v", err)
			}
			waitFor(t, "the sandbox to notice", func() bool {
				o.s.mu.Lock()
				defer o.s.mu.Unlock()
				return len(o.s.state.ledger.places) == 0
			})
			if c := o.s.Calls(Filter{Path: pathSubscribe})[0]; c.Delivered != delivered || c.Answered {
				t.Errorf("ledger %+v", c)
			}
		})
	}
	t.Run("stop lets go", func(t *testing.T) {
		s := New(Options{})
		url, stop := s.Start()
		o := &overTheWire{s, url, &http.Client{Transport: &http.Transport{}}}
		failed := make(chan error, 1)
		go func() {
			_, err := o.send(context.Background(), t, pathCustom, carriers(pathCustom, "hang"))
			failed <- err
		}()
		waitFor(t, "the call", func() bool { return s.Count(Filter{Path: pathCustom}) == 1 })
		stop()
		stop()
		if err := <-failed; err == nil {
			t.Error("a hanging call was answered")
		}
	})
}

func TestSendingToOnePersonAtOnce(t *testing.T) {
	for _, allowed := range []bool{false, true} {
		s := New(Options{AllowConcurrent: allowed, Latency: 20 * time.Millisecond})
		token := stableToken(t, s)
		const callers = 8
		var group sync.WaitGroup
		codes := make([]int, callers)
		for i := range callers {
			group.Go(func() {
				codes[i] = ask(t, s, "POST", pathSubscribe+"?access_token="+token, goodBody(pathSubscribe, "o1")).ErrCode
			})
		}
		group.Wait()
		refused := s.Count(Filter{ErrCodes: []int{43108}})
		if (refused == 0) != allowed || s.Delivered(testApp, "o1", "") != callers-refused {
			t.Errorf("allowed %t: %v", allowed, codes)
		}
		s.SetLatency(0)
		for range 3 {
			if a := post(t, s, pathSubscribe, goodBody(pathSubscribe, "o1")); a.ErrCode != 0 {
				t.Errorf("one after another: %s", a.raw)
			}
		}
		if len(s.state.sending) != 0 {
			t.Error("an openid is still held")
		}
	}
}

func TestSlowAndLatency(t *testing.T) {
	s := New(Options{})
	s.SetLatency(20 * time.Millisecond)
	begun := time.Now()
	post(t, s, pathCustom, goodBody(pathCustom, "o1"))
	if took := time.Since(begun); took < 40*time.Millisecond { // the token call waits too
		t.Errorf("with latency: %v", took)
	}
	s.SetLatency(0)
	begun = time.Now()
	post(t, s, pathCustom, carriers(pathCustom, "slow1"))
	if took := time.Since(begun); took < slowness {
		t.Errorf("slow: %v", took)
	}
	if c := s.Calls(Filter{Path: pathCustom})[1]; c.Took < slowness || !c.Delivered {
		t.Errorf("ledger: %+v", c)
	}
}

func TestRules(t *testing.T) {
	s := New(Options{})
	add := func(f Fault) int {
		t.Helper()
		id, err := s.AddFault(f)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	add(Fault{Name: "busy", Path: pathSubscribe, OpenID: "o1", Count: 2})
	banned := add(Fault{ErrCode: 43107, ErrMsg: "template is banned", Template: "T1", Path: pathBizSubscribe})
	add(Fault{ErrCode: 48001, App: "wxffffffffffffffff"})
	var got []int
	for range 3 {
		got = append(got, post(t, s, pathSubscribe, goodBody(pathSubscribe, "o1")).ErrCode)
	}
	if !slices.Equal(got, []int{-1, -1, 0}) || len(s.Faults()) != 2 {
		t.Errorf("twice busy: %v, rules left %v", got, s.Faults())
	}
	if a := post(t, s, pathBizSubscribe, goodBody(pathBizSubscribe, "o1")); a.ErrCode != 43107 || !strings.HasPrefix(a.ErrMsg, "template is banned rid: ") {
		t.Errorf("template: %s", a.raw)
	}
	if !s.RemoveFault(banned) || s.RemoveFault(banned) {
		t.Error("a rule can be removed once")
	}
	if a := post(t, s, pathBizSubscribe, goodBody(pathBizSubscribe, "o1")); a.ErrCode != 0 {
		t.Errorf("after removing: %s", a.raw)
	}
	add(Fault{Name: "busy"})
	if stableToken(t, s) == "" || post(t, s, pathQuota, `{"cgi_path":"/cgi-bin/token"}`).ErrCode != 0 {
		t.Error("a rule without a path reaches tokens and quotas")
	}
	s.ClearFaults()
	add(Fault{Name: "busy", Path: pathStableToken, Count: 1})
	if a := ask(t, s, "POST", pathStableToken, `{"grant_type":"client_credential","appid":"x","secret":"y"}`); a.ErrCode != -1 {
		t.Errorf("a rule for tokens: %s", a.raw)
	}
	for _, f := range []Fault{{}, {Name: "nonsense"}, {Name: "busy", ErrCode: 1}, {Name: "busy", Rate: 2}, {Name: "busy", Count: -1}, {Name: "busy", Path: "/x"}} {
		if _, err := s.AddFault(f); err == nil {
			t.Errorf("%+v is a rule", f)
		}
	}
}

func TestRateIsRepeatable(t *testing.T) {
	run := func(seed uint64) []bool {
		s := New(Options{Seed: seed})
		if _, err := s.AddFault(Fault{Name: "busy", Rate: 0.2}); err != nil {
			t.Fatal(err)
		}
		token := stableToken(t, s)
		var busy []bool
		for range 1000 {
			busy = append(busy, ask(t, s, "POST", pathCustom+"?access_token="+token, goodBody(pathCustom, "o1")).ErrCode == -1)
		}
		if n := s.Count(Filter{ErrCodes: []int{-1}}); n < 150 || n > 250 {
			t.Errorf("%d of 1000 at a rate of 0.2", n)
		}
		return busy
	}
	if one := run(7); !slices.Equal(one, run(7)) || slices.Equal(one, run(8)) {
		t.Error("a seed does not decide what happens")
	}
}

func TestSplitFault(t *testing.T) {
	tests := []struct {
		text    string
		name    string
		times   int
		limited bool
	}{
		{"busy-o1", "busy", 0, false},
		{"busy3-o1", "busy", 3, true},
		{"hangafter-o1", "hangafter", 0, false},
		{"fault=lost", "lost", 0, false},
		{"fault=lost2&id=1", "lost", 2, true},
		{"fault=lost-1", "lost", 0, false},
		{"busy", "", 0, false},
		{"token&a=1", "", 0, false},
		{"day=1", "", 0, false},
		{"oAbc-busy-", "", 0, false},
		{"", "", 0, false},
	}
	for _, tt := range tests {
		if name, times, limited := splitFault(tt.text); name != tt.name || times != tt.times || limited != tt.limited {
			t.Errorf("%q: %q %d %t", tt.text, name, times, limited)
		}
	}
	if _, ok := New(Options{}).faults[""]; ok {
		t.Error("no name is a fault")
	}
}
