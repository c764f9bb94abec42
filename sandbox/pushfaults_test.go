package sandbox

import (
	"container/heap"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// Faults by the openid: what arrives, and what the log says.
func TestPushFaultPrefixes(t *testing.T) {
	tests := []struct {
		openid, path, has string
		arrives           int
		status            PushStatus
		forged            bool
	}{
		{openid: "noreceipt-oOne", path: pathSubscribe, status: PushLost},
		{openid: "earlyreceipt-oOne", path: pathSubscribe, arrives: 1, status: PushTaken},
		{openid: "twice-oOne", path: pathTemplate, arrives: 2, status: PushTaken},
		{openid: "badsignature-oOne", path: pathTemplate, arrives: 1, status: PushTaken, forged: true},
		{openid: "userblock-oOne", path: pathTemplate, has: "<Status><![CDATA[failed:user block]]></Status>", arrives: 1, status: PushTaken},
		{openid: "systemfailed-oOne", path: pathTemplate, has: "<Status><![CDATA[failed: system failed]]></Status>", arrives: 1, status: PushTaken},
		{openid: "freqlimit-oOne", path: pathTemplate, has: "<Status><![CDATA[failed:freq limit]]></Status>", arrives: 1, status: PushTaken},
		{openid: "userblock-oOne", path: pathSubscribe, has: "<ErrorCode>20001</ErrorCode><ErrorStatus><![CDATA[failed:user block]]></ErrorStatus>", arrives: 1, status: PushTaken},
		{openid: "lost-oOne", path: pathSubscribe, has: "<ErrorCode>0</ErrorCode>", arrives: 1, status: PushTaken},
	}
	for _, tt := range tests {
		s, got := withReceiver(t, Options{}, Callback{})
		sendAnyway(t, s, tt.path, tt.openid)
		waitPushes(t, s)
		pushes := got.all()
		if len(pushes) != tt.arrives {
			t.Errorf("%s: %d pushes arrive, want %d", tt.openid, len(pushes), tt.arrives)
		}
		for _, p := range pushes {
			if !strings.Contains(p.body, tt.has) || p.forged != tt.forged {
				t.Errorf("%s: %+v", tt.openid, p)
			}
		}
		log := s.Pushes(PushFilter{})
		name, _, _ := strings.Cut(tt.openid, "-")
		if name == "lost" { // of the call, not of the push
			name = ""
		}
		for i, p := range log {
			if p.Status != tt.status || strings.Join(p.Faults, " ") != name || i == 1 && p.Copy != 2 {
				t.Errorf("%s: the log %+v", tt.openid, p)
			}
		}
		if len(log) != max(tt.arrives, 1) {
			t.Errorf("%s: the log has %d pushes", tt.openid, len(log))
		}
	}
}

// sendAnyway sends a message whose answer may be lost.
func sendAnyway(t *testing.T, s *Server, path, openid string) {
	t.Helper()
	defer func() { _ = recover() }() // the recorder of post cannot reset a connection
	post(t, s, path, subscribeTo(openid))
}

// With a number, the first pushes of an event get the fault.
func TestPushFaultTimes(t *testing.T) {
	s, got := withReceiver(t, Options{}, Callback{})
	for range 3 {
		post(t, s, pathSubscribe, subscribeTo("noreceipt2-oOne"))
	}
	waitPushes(t, s)
	if n := s.PushCounts(); len(got.all()) != 1 || n[PushLost] != 2 || n[PushTaken] != 1 {
		t.Errorf("%d arrive, %v", len(got.all()), n)
	}
}

// An early push arrives before the call is answered, any other after that.
func TestEarlyPush(t *testing.T) {
	for _, openid := range []string{"earlyreceipt-oOne", "oOne"} {
		s, got := withReceiver(t, Options{}, Callback{})
		answered := make(chan bool, 1)
		got.answer = func(int, http.ResponseWriter, *http.Request) {
			answered <- s.Calls(Filter{Path: pathSubscribe})[0].Answered
		}
		post(t, s, pathSubscribe, subscribeTo(openid))
		waitPushes(t, s)
		if want := openid == "oOne"; <-answered != want {
			t.Errorf("%s: answered at the time of the push: not %v", openid, want)
		}
	}
}

// A message that was accepted and never answered has a receipt while its client waits.
func TestReceiptOfHangingCall(t *testing.T) {
	got := newReceiver(t)
	o := startSandbox(t, Options{Callbacks: map[string]Callback{testApp: {URL: got.URL, Token: pushToken}}})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := o.send(ctx, t, pathSubscribe, subscribeTo("hangafter-oOne"))
		done <- err
	}()
	waitFor(t, "the receipt", func() bool { return len(got.all()) == 1 })
	cancel()
	if err := <-done; err == nil {
		t.Error("the call was answered")
	}
}

// The delays are at least what was asked for; a push without one does not wait for those before it.
func TestPushDelays(t *testing.T) {
	s, got := withReceiver(t, Options{Pushes: PushOptions{Delay: 20 * time.Millisecond, Jitter: 10 * time.Millisecond}}, Callback{})
	if _, err := s.AddPushFault(PushFault{Name: "latereceipt", OpenID: "oLater", Delay: time.Hour}); err != nil {
		t.Fatal(err)
	}
	started := time.Now()
	post(t, s, pathSubscribe, subscribeTo("oLater"))
	post(t, s, pathSubscribe, subscribeTo("oOne"))
	waitFor(t, "the push", func() bool { return len(got.all()) == 1 })
	if took := time.Since(started); took < 20*time.Millisecond || got.all()[0].openid != "oOne" {
		t.Errorf("after %v: %+v", took, got.all())
	}
	if log := s.Pushes(PushFilter{OpenID: "oLater"}); len(log) != 1 || log[0].Status != PushQueued || !slices.Equal(log[0].Faults, []string{"latereceipt"}) {
		t.Errorf("%+v", log)
	}
}

// Shuffle sends the pushes of a period in another order, the same for the same seed.
func TestShuffle(t *testing.T) {
	order := func(seed uint64) string {
		const many = 8
		s, got := withReceiver(t, Options{Seed: seed, Pushes: PushOptions{Shuffle: 24 * time.Hour, Concurrency: 1}}, Callback{})
		for i := range many {
			post(t, s, pathSubscribe, subscribeTo(fmt.Sprintf("o%d", i)))
		}
		s.pushes.mu.Lock()
		for _, q := range s.pushes.queue {
			q.due = time.Time{} // the period ends
		}
		heap.Init(&s.pushes.queue)
		s.pushes.mu.Unlock()
		select {
		case s.pushes.wake <- struct{}{}:
		default: // it is to wake already
		}
		waitPushes(t, s)
		var openids []string
		for _, p := range got.all() {
			openids = append(openids, p.openid)
		}
		if len(openids) != many {
			t.Fatalf("%v", openids)
		}
		return strings.Join(openids, " ")
	}
	first, again, other := order(1), order(1), order(2)
	if first != again || first == other || first == "o0 o1 o2 o3 o4 o5 o6 o7" {
		t.Errorf("%s, again %s, another seed %s", first, again, other)
	}
}

// The same seed loses the same pushes, also when the rules of others change or sends are concurrent.
func TestPushRateIsRepeatable(t *testing.T) {
	lost := func(seed uint64) (openids []string) {
		s, _ := withReceiver(t, Options{Seed: seed, NoLimits: true}, Callback{})
		for _, f := range []PushFault{{Name: "noreceipt", Rate: 0.25}, {Name: "twice", Rate: 0.5, Count: 3}, {Name: "userblock", Event: eventTemplateSent}} {
			if _, err := s.AddPushFault(f); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 200 {
			post(t, s, pathSubscribe, subscribeTo(fmt.Sprintf("o%d", i)))
		}
		waitPushes(t, s)
		for _, p := range s.Pushes(PushFilter{Status: PushLost}) {
			openids = append(openids, p.OpenID)
		}
		if n := len(s.PushFaults()); n != 2 {
			t.Errorf("%d rules are left, want 2: the second is used up", n)
		}
		for _, p := range s.Pushes(PushFilter{}) {
			if p.Receipt != receiptSuccess {
				t.Errorf("a rule for another event: %+v", p)
			}
		}
		return openids
	}
	first, again, other := lost(7), lost(7), lost(8)
	if !slices.Equal(first, again) || slices.Equal(first, other) || len(first) < 25 || len(first) > 75 {
		t.Errorf("lost %d of 200: %v\nagain: %v\nanother seed: %v", len(first), first, again, other)
	}
}

func TestPushFaultErrors(t *testing.T) {
	s := New(Options{})
	for want, f := range map[string]PushFault{
		"there are noreceipt, earlyreceipt": {Name: "busy"},
		"rate must be":                      {Name: "twice", Rate: 2},
		"count 0 or more":                   {Name: "twice", Count: -1},
		"is not latereceipt":                {Name: "twice", Delay: time.Second},
		"is negative":                       {Name: "latereceipt", Delay: -time.Second},
	} {
		if _, err := s.AddPushFault(f); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", f, err, want)
		}
	}
}

// Every push arrives once under concurrent calls, and WaitPushes waits for it.
func TestManyPushes(t *testing.T) {
	const calls, callers = 50, 20
	s, got := withReceiver(t, Options{NoLimits: true}, Callback{AESKey: pushKey, Format: FormatJSON})
	token := stableToken(t, s)
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			for i := range calls {
				do(t, s, "POST", pathSubscribe+"?access_token="+token, subscribeTo(fmt.Sprintf("o%d-%d", c, i)))
			}
		})
	}
	wg.Wait()
	waitPushes(t, s)
	seen := map[string]bool{}
	for _, p := range got.all() {
		seen[p.body] = true
	}
	if len(seen) != calls*callers || len(got.all()) != calls*callers || s.PushCounts()[PushTaken] != calls*callers {
		t.Errorf("%d pushes, %d of them different, %v", len(got.all()), len(seen), s.PushCounts())
	}
}
