package main_test

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/wxcourier/wxcourier/internal/asynqwire"
	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/sandbox"
	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/wechat/callback"
)

// mediaChecks is the number of checks of TestMediaChecksAndKills, unless WXCOURIER_MEDIA_CHECKS has another.
const mediaChecks = 80

const mediaQueue = mini + ":" + tasks.TypeMediaCheck

// submitChecks enqueues checks: one in five of something risky, one in five of a file that cannot be
// downloaded.
func (d *deployment) submitChecks(n int) (ids []string) {
	d.Helper()
	envelopes := make([]tasks.Envelope, n)
	for i := range envelopes {
		person, host := fmt.Sprintf("person-%d", i), "example.com"
		switch i % 5 {
		case 1:
			person = "risky-" + person
		case 2:
			host = "files.invalid"
		}
		ids = append(ids, fmt.Sprintf("check-%d", i))
		envelopes[i] = tasks.Envelope{
			Type: tasks.TypeMediaCheck, App: mini, ID: ids[i], Batch: "checks",
			Body: fmt.Appendf(nil, `{"media_url":"https://%s/%d.png","media_type":2,"version":2,"scene":1,"openid":%q}`, host, i, person),
		}
	}
	for _, r := range d.client.SubmitMany(d.Context(), envelopes) {
		must(d.T, r.Err)
	}
	return ids
}

// expectVerdict checks that a check ended with what its push said.
func (d *deployment) expectVerdict(i int, r tasks.Result) {
	d.Helper()
	want := tasks.Result{Outcome: tasks.OutcomeAccepted, Suggest: "pass", Label: "100"}
	switch i % 5 {
	case 1:
		want.Suggest, want.Label = "risky", "20006"
	case 2:
		want = tasks.Result{Outcome: tasks.OutcomeRejected, Reason: "media_download", ErrCode: -1008}
	}
	if r.Outcome != want.Outcome || r.Suggest != want.Suggest || r.Label != want.Label || r.Reason != want.Reason || r.ErrCode != want.ErrCode {
		d.Errorf("check %d: %+v; want %+v", i, r, want)
	}
}

// waitingTrace returns the trace_id for whose push a task waits; "" for none.
func (d *deployment) waitingTrace(id string) string {
	_, trace, _ := strings.Cut(d.rdb.HGet(d.Context(), ledger.TaskKey(mini, id), "trace").Val(), " ")
	return trace
}

// timeIsOver makes a task that waits for its push have waited for half an hour.
func (d *deployment) timeIsOver(id string) {
	d.Helper()
	must(d.T, d.rdb.HSet(d.Context(), ledger.TaskKey(mini, id), "trace", fmt.Sprint(time.Now().Add(-time.Second).UnixMilli(), " ", d.waitingTrace(id))).Err())
	d.until("asynq's copy of "+id+" runs", func() bool {
		moved, err := asynqwire.RunRetry(d.Context(), d.rdb, mediaQueue, mini+":"+id)
		must(d.T, err)
		return moved
	})
	must(d.T, d.rdb.Publish(d.Context(), ledger.WakeChannel, mediaQueue).Err())
}

// TestMediaChecksAndKills: the pushes of checks come before the answer, twice, late or, of one in ten,
// not at all, while the gateway and the worker are killed and started again. Each check ends once, with
// what its push said; one without a push ends as unknown, and a push after that replaces it.
func TestMediaChecksAndKills(t *testing.T) {
	t.Parallel()
	n, whole := mediaChecks, false
	if more, err := strconv.Atoi(os.Getenv("WXCOURIER_MEDIA_CHECKS")); err == nil {
		n, whole = more, true
	}
	d := newDeployment(t, 20*time.Millisecond, ", limits: {\"seccheck:media\": {concurrency: 4}}")
	for name, rate := range map[string]float64{"noreceipt": 0.1, "earlyreceipt": 0.2, "latereceipt": 0.2, "twice": 0.2} {
		_, err := d.wx.AddPushFault(sandbox.PushFault{Name: name, Rate: rate})
		must(t, err)
	}
	d.start()
	ids := d.submitChecks(n)
	d.until("checks have ended", func() bool { return d.ended("checks") >= n/4 })
	inHand := d.killBoth(mediaQueue)
	d.start()
	if whole {
		inHand = nil // they are requested again, a minute later
	}
	lost := d.withoutPush(ids, inHand)
	for i, id := range ids {
		if lost[id] == "" {
			for _, r := range d.results([]string{id}, inHand) {
				d.expectVerdict(i, r)
			}
		}
	}
	replaced := ""
	for id, trace := range lost {
		d.timeIsOver(id)
		if r := d.results([]string{id}, nil)[id]; r.Outcome != tasks.OutcomeUnknown || r.Reason != "no_callback" || r.TraceID != trace {
			t.Errorf("%s, without a push: %+v", id, r)
		}
		replaced = id
	}
	if replaced == "" {
		t.Fatal("no push was lost")
	}
	d.pushLate(lost[replaced])
	d.until("the late push replaces the outcome", func() bool {
		r, err := d.client.Result(t.Context(), mini, replaced)
		return err == nil && r.Outcome == tasks.OutcomeAccepted && r.Suggest == "review" && r.Supersedes == tasks.OutcomeUnknown
	})
	d.endedOnce(ids, inHand, replaced)
	t.Logf("%d checks: %d pushes were taken, %d lost; %d tasks were in hand at the kill", n,
		len(d.wx.Pushes(sandbox.PushFilter{Status: sandbox.PushTaken})), len(lost), len(inHand))
}

// withoutPush waits until the tasks have ended whose pushes came, and returns the others with their
// trace_ids: their pushes were lost.
func (d *deployment) withoutPush(ids, inHand []string) map[string]string {
	d.Helper()
	left := make(map[string]bool)
	for _, id := range inHand {
		left[id] = true
	}
	var lost map[string]string
	d.until("the checks have ended whose pushes came", func() bool {
		traces := make(map[string]bool)
		for _, p := range d.wx.Pushes(sandbox.PushFilter{Event: callback.EventMediaCheck, Status: sandbox.PushLost}) {
			traces[p.TraceID] = true
		}
		lost = make(map[string]string)
		for _, id := range ids {
			r, err := d.client.Result(d.Context(), mini, id)
			switch trace := d.waitingTrace(id); {
			case left[id], err == nil && r.Outcome != "":
			case trace != "" && traces[trace]:
				lost[id] = trace
			default:
				return false
			}
		}
		return true
	})
	return lost
}

// pushLate pushes a verdict as WeChat does.
func (d *deployment) pushLate(trace string) {
	d.Helper()
	keys := callback.Keys{App: mini, Token: pushToken, AESKey: pushAES}
	g := &pushedGateway{T: d.T, pushes: d.callbacks}
	message := fmt.Sprintf(`{"ToUserName":"gh_1","FromUserName":"oPerson","CreateTime":%d,"MsgType":"event","Event":"wxa_media_check","appid":%q,"trace_id":%q,"version":2,"errcode":0,"errmsg":"ok","result":{"suggest":"review","label":20002}}`,
		time.Now().Unix(), mini, trace)
	if status := g.push(keys, message); status != 200 {
		d.Errorf("a late push: status %d", status)
	}
}

// endedOnce checks that the stream has one entry of each task, and two of the one whose outcome was
// replaced, and that the batch counts each task once.
func (d *deployment) endedOnce(ids, inHand []string, replaced string) {
	d.Helper()
	entries := make(map[string]int)
	for _, m := range d.rdb.XRange(d.Context(), ledger.StreamKey(mini), "-", "+").Val() {
		text, _ := m.Values["result"].(string)
		var r tasks.Result
		must(d.T, json.Unmarshal([]byte(text), &r))
		entries[r.ID]++
	}
	for _, id := range inHand {
		delete(entries, id)
	}
	for id, n := range entries {
		want := 1
		if id == replaced {
			want = 2
		}
		if n != want {
			d.Errorf("%s has %d entries in the stream, want %d", id, n, want)
		}
	}
	if want := len(ids) - len(inHand); len(entries) != want || d.ended("checks") < want || d.ended("checks") > len(ids) {
		d.Errorf("%d tasks have entries, %d are counted as done; want %d", len(entries), d.ended("checks"), want)
	}
}
