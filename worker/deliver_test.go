package worker_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/sandbox"
	"github.com/wxcourier/wxcourier/tasks"
)

// TestEveryTypeIsDelivered delivers the catalog's example of each type.
func TestEveryTypeIsDelivered(t *testing.T) {
	onEach(t, sandbox.Options{}, func(t *testing.T, r *rig) {
		r.replica(nil)
		for _, spec := range tasks.Catalog() {
			if spec.Callback {
				continue // see TestMediaCheck
			}
			id := strings.ReplaceAll(spec.Type, ":", "-")
			r.submit(tasks.Envelope{Type: spec.Type, ID: id, Body: []byte(spec.Example)})
		}
		for _, spec := range tasks.Catalog() {
			if spec.Callback {
				continue
			}
			got := r.outcome(strings.ReplaceAll(spec.Type, ":", "-"))
			want := tasks.OutcomeAccepted
			if spec.Type == tasks.TypeUniform {
				want = tasks.OutcomeRejected // retired since 2023
			}
			if got.Outcome != want || got.Attempts != 1 {
				t.Errorf("%s: %s after %d attempts: %d %s %s", spec.Type, got.Outcome, got.Attempts, got.ErrCode, got.ErrMsg, got.Reason)
			}
			if want != tasks.OutcomeAccepted {
				continue
			}
			switch spec.Kind {
			case tasks.Link:
				if got.OpenLink+got.URLLink+got.Link == "" {
					t.Errorf("%s: no link", spec.Type)
				}
			case tasks.Code:
				image, err := r.client.Image(t.Context(), app, got.ID)
				if err != nil || len(image) == 0 || got.Image == "" {
					t.Errorf("%s: image %q of %d bytes, %v", spec.Type, got.Image, len(image), err)
				}
			case tasks.Check:
				if spec.Type == tasks.TypeTextCheck && (got.Suggest == "" || got.TraceID == "") {
					t.Errorf("%s: no advice: %+v", spec.Type, got)
				}
			case tasks.Message:
				if got.MsgID == "" && spec.Type != tasks.TypeCustom && spec.Type != tasks.TypeBizSubscribe {
					t.Errorf("%s: no msgid", spec.Type)
				}
			}
		}
	})
}

// TestOutcomes sends tasks to openids for which the sandbox gives each kind of answer.
func TestOutcomes(t *testing.T) {
	cases := []struct {
		typ, openid string
		want        tasks.Outcome
		calls       int // of the business API
		delivered   int
	}{
		{tasks.TypeSubscribe, "plain", tasks.OutcomeAccepted, 1, 1},
		{tasks.TypeSubscribe, "unsubscribed-a", tasks.OutcomeRefused, 1, 0},
		{tasks.TypeSubscribe, "badopenid-a", tasks.OutcomeRejected, 1, 0},
		{tasks.TypeCustom, "inactive-a", tasks.OutcomeRefused, 1, 0},
		{tasks.TypeTemplate, "blocked-a", tasks.OutcomeRefused, 1, 0},
		{tasks.TypeSubscribe, "busy-a", tasks.OutcomeAccepted, 2, 1},
		{tasks.TypeSubscribe, "concurrent-a", tasks.OutcomeAccepted, 2, 1},
		{tasks.TypeSubscribe, "reset-a", tasks.OutcomeUnknown, 1, 0},
		{tasks.TypeSubscribe, "lost-a", tasks.OutcomeUnknown, 1, 1},
		{tasks.TypeSubscribe, "hang-a", tasks.OutcomeUnknown, 1, 0},
		{tasks.TypeSubscribe, "hangafter-a", tasks.OutcomeUnknown, 1, 1},
		{tasks.TypeSubscribe, "garbage-a", tasks.OutcomeUnknown, 1, 0},
		{tasks.TypeSubscribe, "badgateway-a", tasks.OutcomeUnknown, 1, 0},
		{tasks.TypeSubscribe, "cut-a", tasks.OutcomeUnknown, 1, 1},
		{tasks.TypeTemplate, "lost-b", tasks.OutcomeAccepted, 2, 1},
		{tasks.TypeTemplate, "reset-b", tasks.OutcomeAccepted, 2, 1},
		{tasks.TypeTextCheck, "reset-c", tasks.OutcomeAccepted, 2, 1},
		{tasks.TypeTextCheck, "risky-c", tasks.OutcomeAccepted, 1, 1},
	}
	onEach(t, sandbox.Options{}, func(t *testing.T, r *rig) {
		r.replica(nil)
		for i, c := range cases {
			r.submit(addressed(c.typ, fmt.Sprintf("t%d", i), c.openid))
		}
		for i, c := range cases {
			name := c.typ + " to " + c.openid
			got := r.outcome(fmt.Sprintf("t%d", i))
			if got.Outcome != c.want {
				t.Errorf("%s: %s, want %s (%d %s %s)", name, got.Outcome, c.want, got.ErrCode, got.ErrMsg, got.Reason)
			}
			spec, _ := tasks.Lookup(c.typ)
			tally := r.wx.CallCount(app, c.openid, spec.Path)
			if tally.Calls != c.calls || tally.Delivered != c.delivered {
				t.Errorf("%s: %d calls and %d delivered, want %d and %d", name, tally.Calls, tally.Delivered, c.calls, c.delivered)
			}
		}
		if d := r.wx.Duplicates(); len(d) > 0 {
			t.Errorf("delivered twice: %+v", d)
		}
		noLeak(t, r)
	})
}

// addressed returns a task of a type for an openid.
func addressed(typ, id, openid string) tasks.Envelope {
	bodies := map[string]string{
		tasks.TypeSubscribe: `{"touser":%q,"template_id":"T1","data":{"thing1":{"value":"订单&已发货"}}}`,
		tasks.TypeTemplate:  `{"touser":%q,"template_id":"T1","data":{"thing1":{"value":"订单已发货"}}}`,
		tasks.TypeCustom:    `{"touser":%q,"msgtype":"text","text":{"content":"Hello <b>"}}`,
		tasks.TypeTextCheck: `{"openid":%q,"version":2,"scene":1,"content":"待检测文本"}`,
	}
	return tasks.Envelope{Type: typ, ID: id, Body: fmt.Appendf(nil, bodies[typ], openid)}
}

// noLeak checks that the log contains no secret, token, openid or text of a message, and
// that bodies were sent without escapes.
func noLeak(t *testing.T, r *rig) {
	t.Helper()
	text := r.log.String()
	for _, call := range r.wx.Calls(sandbox.Filter{}) {
		if call.Escaped {
			t.Errorf("%s: a body with escapes: %s", call.Path, call.Body)
		}
		if call.OpenID != "" && strings.Contains(text, call.OpenID) {
			t.Errorf("an openid is in the log: %s", line(text, call.OpenID))
		}
	}
	for _, token := range r.wx.Tokens(app) {
		if strings.Contains(text, token.Value) {
			t.Errorf("a token is in the log: %s", line(text, token.Value))
		}
	}
	for _, private := range []string{secret, "已发货", "待检测"} {
		if strings.Contains(text, private) {
			t.Errorf("a secret or a text is in the log: %s", line(text, private))
		}
	}
}

// line returns the line of s that contains part.
func line(s, part string) string {
	for l := range strings.Lines(s) {
		if strings.Contains(l, part) {
			return l
		}
	}
	return ""
}

func TestExpiredAndCanceledAreNotSent(t *testing.T) {
	onEach(t, sandbox.Options{}, func(t *testing.T, r *rig) {
		late := message("late", "a")
		late.NotAfter = time.Now().Add(-time.Second)
		r.submit(late)
		r.submit(message("canceled", "b"))
		grouped := message("grouped", "c")
		grouped.Batch = "spring"
		r.submit(grouped)
		if n, err := r.client.Cancel(t.Context(), app, "canceled", "nobody"); err != nil || n.Canceled != 1 || n.Missing != 1 {
			t.Errorf("cancel: %+v, %v", n, err)
		}
		if n, err := r.client.CancelBatch(t.Context(), app, "spring"); err != nil || n != 1 {
			t.Errorf("cancel the batch: %d, %v", n, err)
		}
		r.replica(nil)
		for id, want := range map[string]tasks.Outcome{
			"late": tasks.OutcomeExpired, "canceled": tasks.OutcomeCanceled, "grouped": tasks.OutcomeCanceled,
		} {
			if got := r.outcome(id); got.Outcome != want || got.Attempts != 0 {
				t.Errorf("%s: %s after %d attempts, want %s", id, got.Outcome, got.Attempts, want)
			}
		}
		if n := r.wx.Count(sandbox.Filter{Path: "/cgi-bin/message/subscribe/send"}); n != 0 {
			t.Errorf("%d calls", n)
		}
		if c, err := r.client.Batch(t.Context(), app, "spring"); err != nil || c["canceled"] != 1 || c["done"] != 1 || c["total"] != 1 {
			t.Errorf("batch %v, %v", c, err)
		}
	})
}

func TestAnIDIsSentOnce(t *testing.T) {
	onEach(t, sandbox.Options{}, func(t *testing.T, r *rig) {
		if first := r.submit(message("one", "a")); first.Already {
			t.Error("a new id was reported as already enqueued")
		}
		bulk := message("one", "a")
		bulk.Priority = tasks.Bulk // asynq's ids are unique within one queue only
		if again := r.submit(bulk); !again.Already || again.Done {
			t.Errorf("the id of a waiting task: %+v", again)
		}
		r.replica(nil)
		r.outcome("one")
		if again := r.submit(message("one", "a")); !again.Already || !again.Done {
			t.Errorf("the id of an ended task: %+v", again)
		}
		if n := r.wx.Delivered(app, "a", ""); n != 1 {
			t.Errorf("delivered %d times", n)
		}
	})
}

func TestStagingGuard(t *testing.T) {
	m, _ := redistest.Mini(t)
	r := newRig(t, m.Addr(), sandbox.Options{})
	r.only = []string{"tester"}
	r.replica(nil)
	r.submit(message("to-tester", "tester"))
	r.submit(message("to-customer", "customer"))
	if got := r.outcome("to-tester"); got.Outcome != tasks.OutcomeAccepted {
		t.Errorf("the tester: %s", got.Outcome)
	}
	if got := r.outcome("to-customer"); got.Outcome != tasks.OutcomeRejected || got.Reason != "staging" || got.Attempts != 0 {
		t.Errorf("the customer: %+v", got)
	}
	if n := r.wx.Delivered(app, "customer", ""); n != 0 {
		t.Error("the customer got a message")
	}
}

// TestStaleToken: 30 calls use a token that was revoked. Each call is resent at once, after
// one refresh for all of them.
func TestStaleToken(t *testing.T) {
	onEach(t, sandbox.Options{}, func(t *testing.T, r *rig) {
		r.replica(nil)
		r.submit(message("before", "a"))
		r.outcome("before")
		r.wx.Revoke(app)
		for i := range 30 {
			r.submit(message(fmt.Sprintf("m%d", i), fmt.Sprintf("o%d", i)))
		}
		for i := range 30 {
			got := r.outcome(fmt.Sprintf("m%d", i))
			if got.Outcome != tasks.OutcomeAccepted || got.Attempts != 1 {
				t.Errorf("m%d: %s after %d attempts", i, got.Outcome, got.Attempts)
			}
		}
		if n := len(r.wx.Tokens(app)); n != 2 {
			t.Errorf("%d tokens were issued, want 2", n)
		}
	})
}
