package main_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/wxcourier/wxcourier/internal/heartbeat"
	"github.com/wxcourier/wxcourier/sandbox"
	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/worker"
)

// reconfigured replaces the configuration, and waits until the worker and the gateway use it.
func (d *deployment) reconfigured(members string) {
	d.Helper()
	hashes := func() (all []string) {
		replicas, err := heartbeat.List(d.Context(), d.rdb)
		must(d.T, err)
		for _, r := range replicas {
			if r.Configuration != nil {
				all = append(all, r.Configuration.Hash)
			}
		}
		return all
	}
	var before string
	d.until("both tell their configuration", func() bool {
		all := hashes()
		if len(all) == 2 && all[0] == all[1] {
			before = all[0]
		}
		return before != ""
	})
	d.configure(members)
	d.until("both use the new configuration", func() bool {
		all := hashes()
		return len(all) == 2 && all[0] == all[1] && all[0] != before
	})
}

// known is what the gateway's API tells of a person.
type known struct {
	Mode  string
	Items []struct {
		MaySend string `json:"may_send"`
		Why     string
	}
}

func (d *deployment) consentOf(person string) (k known) {
	d.Helper()
	if status := d.request(http.MethodGet, "/v1/consents/"+mini+"/"+person, "", &k); status != http.StatusOK {
		d.Errorf("the consents of %s: status %d", person, status)
	}
	return k
}

// calls counts the calls that messages to a person made.
func (d *deployment) calls(person string) int {
	return int(d.wx.Count(sandbox.Filter{App: mini, Path: subscribePath, OpenID: person}))
}

// TestConsentIsReloaded: off, observe, enforce and off apply to the worker and the gateway without a
// restart: what pushes do, what becomes of tasks, and of messages by WeChat's own path.
func TestConsentIsReloaded(t *testing.T) {
	t.Parallel()
	d := newDeployment(t, time.Millisecond, "")
	d.start()
	d.until("the gateway answers", func() bool { return d.request(http.MethodGet, "/readyz", "", nil) == http.StatusOK })
	var ticket struct {
		AccessToken string `json:"access_token"`
	}
	d.request(http.MethodGet, "/wechat/cgi-bin/token?grant_type=client_credential&secret=none&appid="+mini, "", &ticket)
	type wechatAnswer struct {
		ErrCode int
		ErrMsg  string
	}
	// through sends a message to a person by WeChat's path.
	through := func(person string) (answer wechatAnswer) {
		body := `{"touser":"` + person + `","template_id":"` + oneTime + `","data":{"number1":{"value":"1"}}}`
		d.request(http.MethodPost, "/wechat"+subscribePath+"?access_token="+ticket.AccessToken, body, &answer)
		return answer
	}
	refused := func(id, reason string, code int) {
		t.Helper()
		r := d.results([]string{id}, nil)[id]
		if r.Outcome != tasks.OutcomeRefused || r.Reason != reason || r.ErrCode != code {
			t.Errorf("%s: %+v; want refused, reason %q, code %d", id, r, reason, code)
		}
	}
	counted := func() bool {
		return len(d.rdb.Keys(t.Context(), "wxcourier:{"+mini+"}:consent:*").Val()) > 0
	}

	d.popup("declined", sandbox.Reject)
	d.pushed()
	refused(d.submit("off", "declined")[0], "", 43101)
	if a := through("declined"); a.ErrCode != 43101 || strings.Contains(a.ErrMsg, "wxcourier") {
		t.Errorf("off, by WeChat's path: %+v", a)
	}
	if k := d.consentOf("declined"); k.Mode != "off" || len(k.Items) != 0 || counted() {
		t.Errorf("off: %+v, or something was counted", k)
	}

	d.reconfigured(", consent: observe")
	d.kindsKnown()
	d.popup("declined", sandbox.Reject)
	d.pushed()
	if k := d.consentOf("declined"); k.Mode != "observe" || len(k.Items) != 1 || k.Items[0].Why != "declined" {
		t.Errorf("observe: %+v", k)
	}
	refused(d.submit("observe", "declined")[0], "", 43101)
	if a := through("declined"); a.ErrCode != 43101 || strings.Contains(a.ErrMsg, "wxcourier") {
		t.Errorf("observe, by WeChat's path: %+v", a)
	}
	d.until("both calls are counted", func() bool {
		var counts struct{ Saved int }
		d.request(http.MethodGet, "/v1/consents/"+mini, "", &counts)
		return counts.Saved == 2
	})

	d.reconfigured(", consent: enforce")
	before := d.calls("declined")
	if a := through("declined"); a.ErrCode != 43101 || !strings.Contains(a.ErrMsg, "wxcourier") {
		t.Errorf("enforce, by WeChat's path: %+v", a)
	}
	refused(d.submit("enforce", "declined")[0], worker.ReasonNoConsent, 0)
	if now := d.calls("declined"); now != before {
		t.Errorf("enforce made %d calls", now-before)
	}
	d.popup("accepted", sandbox.Accept)
	d.pushed()
	if a := through("accepted"); a.ErrCode != 0 {
		t.Errorf("enforce, to a person with a credit: %+v", a)
	}

	d.reconfigured("")
	if a := through("declined"); a.ErrCode != 43101 || strings.Contains(a.ErrMsg, "wxcourier") || d.calls("declined") != before+1 {
		t.Errorf("off again, by WeChat's path: %+v", a)
	}
	refused(d.submit("again", "declined")[0], "", 43101)
	if k := d.consentOf("declined"); k.Mode != "off" {
		t.Errorf("off again: %+v", k)
	}
}
