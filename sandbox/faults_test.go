package sandbox

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// faultyBody returns a body for the endpoint that names the fault.
func faultyBody(path, fault string) string {
	switch path {
	case pathScheme, pathNFCScheme:
		return goodBody(path, fault+"-1=1")
	case pathURLLink:
		return goodBody(path, "fault="+fault+"&id=1")
	case pathCode, pathQRCode, pathShortLink:
		return goodBody(path, fault+"&id=1")
	case pathImageCheck:
		return upload("upload", tinyPNG+imageFaultMark+fault+";")
	default:
		return goodBody(path, fault+"-oAbc")
	}
}

func TestRefusingFaults(t *testing.T) {
	for _, row := range faultRows() {
		if row.effect != effectRefuse && row.effect != effectRevoke {
			continue
		}
		t.Run(row.name, func(t *testing.T) {
			for path := range goodBodies() {
				s := New(Options{AllowUniform: true})
				want := []int{row.code, 0, 0}
				ignored := row.message && s.rows[path].kind != kindMessage
				if ignored {
					want = []int{0, 0, 0}
				} else if row.lasting {
					want = []int{row.code, row.code, row.code}
				}
				var got []int
				for range 3 {
					got = append(got, post(t, s, path, faultyBody(path, row.name)).ErrCode)
				}
				if !slices.Equal(got, want) {
					t.Errorf("%s: %v, want %v", path, got, want)
				}
				if ignored {
					continue
				}
				got = nil
				for range 3 {
					got = append(got, post(t, s, path, faultyBody(path, row.name+"2")).ErrCode)
				}
				if want = []int{row.code, row.code, 0}; !slices.Equal(got, want) {
					t.Errorf("%s, twice: %v, want %v", path, got, want)
				}
				if calls := s.Calls(Filter{Path: path}); calls[0].Fault != row.name || calls[0].Delivered || !calls[0].Answered || !calls[5].Delivered {
					t.Errorf("%s: call log %+v", path, calls)
				}
			}
		})
	}
}

func TestTokenFaultRevokes(t *testing.T) {
	s := New(Options{})
	one := stableToken(t, s)
	if a := post(t, s, pathSubscribe, faultyBody(pathSubscribe, "token")); a.ErrCode != 40001 {
		t.Errorf("first call: %s", a.raw)
	}
	if callWithToken(t, s, one) != 40001 || stableToken(t, s) == one || s.TokensIssued(testApp, Stable) != 2 {
		t.Error("the token was not revoked")
	}
}

func TestRiskyFault(t *testing.T) {
	s := New(Options{})
	if a := post(t, s, pathTextCheck, faultyBody(pathTextCheck, "risky")); a.ErrCode != 0 || a.Result != (verdict{"risky", labelIllegal}) {
		t.Errorf("text: %s", a.raw)
	}
	if a := post(t, s, pathTextCheck, `{"content":"x","openid":"risky-o1"}`); a.ErrCode != 87014 {
		t.Errorf("text, version 1: %s", a.raw)
	}
	for _, body := range []string{faultyBody(pathImageCheck, "risky"), upload("risky-1.png", tinyPNG)} {
		if a := post(t, s, pathImageCheck, body); a.ErrCode != 87014 {
			t.Errorf("image: %s", a.raw)
		}
	}
	if a := post(t, s, pathCustom, faultyBody(pathCustom, "risky")); a.ErrCode != 0 {
		t.Errorf("a message to a risky openid: %s", a.raw)
	}
}

func TestSlowAndLatency(t *testing.T) {
	s := New(Options{})
	s.SetLatency(20 * time.Millisecond)
	started := time.Now()
	post(t, s, pathCustom, goodBody(pathCustom, "o1"))
	if took := time.Since(started); took < 40*time.Millisecond { // the token call waits too
		t.Errorf("with latency: %v", took)
	}
	s.SetLatency(0)
	started = time.Now()
	post(t, s, pathCustom, faultyBody(pathCustom, "slow1"))
	if took := time.Since(started); took < slowDelay {
		t.Errorf("slow: %v", took)
	}
	if c := s.Calls(Filter{Path: pathCustom})[1]; c.Duration < slowDelay || !c.Delivered {
		t.Errorf("call log: %+v", c)
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
		t.Error("RemoveFault did not succeed exactly once")
	}
	if a := post(t, s, pathBizSubscribe, goodBody(pathBizSubscribe, "o1")); a.ErrCode != 0 {
		t.Errorf("after removing: %s", a.raw)
	}
	add(Fault{Name: "busy"})
	if stableToken(t, s) == "" || post(t, s, pathQuota, `{"cgi_path":"/cgi-bin/token"}`).ErrCode != 0 {
		t.Error("a rule without a path matches tokens or quotas")
	}
	s.ClearFaults()
	add(Fault{Name: "busy", Path: pathStableToken, Count: 1})
	if a := do(t, s, "POST", pathStableToken, `{"grant_type":"client_credential","appid":"x","secret":"y"}`); a.ErrCode != -1 {
		t.Errorf("a rule for tokens: %s", a.raw)
	}
	for _, f := range []Fault{{}, {Name: "nonsense"}, {Name: "busy", ErrCode: 1}, {Name: "busy", Rate: 2}, {Name: "busy", Count: -1}, {Name: "busy", Path: "/x"}} {
		if _, err := s.AddFault(f); err == nil {
			t.Errorf("%+v was accepted as a rule", f)
		}
	}
}

// A rule delays the answers of its calls, and of no others.
func TestRuleDelays(t *testing.T) {
	const delay = 60 * time.Millisecond
	took := func(s *Server, path, openid string) (code int, took time.Duration) {
		stableToken(t, s)
		code = post(t, s, path, goodBody(path, openid)).ErrCode
		calls := s.Calls(Filter{Path: path})
		return code, calls[len(calls)-1].Duration
	}
	for _, tt := range []struct {
		fault Fault
		code  int
	}{
		{Fault{Delay: delay}, 0},
		{Fault{Name: "slow", Delay: delay}, 0},
		{Fault{Name: "busy", Delay: delay}, -1},
		{Fault{ErrCode: 48001, Delay: delay}, 48001},
	} {
		s := New(Options{})
		tt.fault.Path, tt.fault.OpenID = pathCustom, "o1"
		if _, err := s.AddFault(tt.fault); err != nil {
			t.Fatal(err)
		}
		if code, d := took(s, pathCustom, "o1"); code != tt.code || d < delay || d >= slowDelay {
			t.Errorf("%+v: %d after %v", tt.fault, code, d)
		}
		if code, d := took(s, pathCustom, "o2"); code != 0 || d >= delay {
			t.Errorf("%+v, another openid: %d after %v", tt.fault, code, d)
		}
	}
	s := New(Options{})
	for _, f := range []Fault{{Delay: -1}, {Name: "hang", Delay: 1}, {Name: "hangafter", Delay: 1}, {ErrMsg: "x", Delay: 1}} {
		if _, err := s.AddFault(f); err == nil {
			t.Errorf("%+v was accepted as a rule", f)
		}
	}
	steps := do(t, s, "POST", "/sandbox/faults", `{"errcode":-1,"delay":"1m30s"}`)
	if list := do(t, s, "GET", "/sandbox/faults", ""); list.raw != "["+steps.raw+"]" || !strings.Contains(list.raw, `"delay":"1m30s"`) {
		t.Errorf("the rules: %s, added as %s", list.raw, steps.raw)
	}
}

// A person's answer to messages is not that of another endpoint.
func TestMessageFaultsElsewhere(t *testing.T) {
	s := New(Options{})
	if _, err := s.AddFault(Fault{Name: "unsubscribed"}); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]int{pathSubscribe: 43101, pathTemplate: 43101, pathTextCheck: 0, pathScheme: 0, pathUnlimited: 0} {
		if a := post(t, s, path, goodBody(path, "o1")); a.ErrCode != want {
			t.Errorf("%s: %s, want %d", path, a.raw, want)
		}
	}
	if _, err := s.AddFault(Fault{Name: "unsubscribed", Path: pathTextCheck}); err == nil || !strings.Contains(err.Error(), pathTextCheck) {
		t.Errorf("for a check: %v", err)
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
			busy = append(busy, do(t, s, "POST", pathCustom+"?access_token="+token, goodBody(pathCustom, "o1")).ErrCode == -1)
		}
		if n := s.Count(Filter{ErrCodes: []int{-1}}); n < 150 || n > 250 {
			t.Errorf("%d of 1000 at a rate of 0.2", n)
		}
		return busy
	}
	if one := run(7); !slices.Equal(one, run(7)) || slices.Equal(one, run(8)) {
		t.Error("the seed does not determine the faults")
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
		t.Error("the empty name is a fault")
	}
}
