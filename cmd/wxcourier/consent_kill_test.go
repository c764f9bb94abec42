package main_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/wxcourier/wxcourier/sandbox"
	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/worker"
)

// consentPersons is the number of persons of TestEnforcedConsent and TestObservedConsent, unless
// WXCOURIER_CONSENTS has another.
const consentPersons = 60

func persons() (all []string, whole bool) {
	n := consentPersons
	if more, err := strconv.Atoi(os.Getenv("WXCOURIER_CONSENTS")); err == nil {
		n, whole = more, true
	}
	for i := range n {
		all = append(all, fmt.Sprintf("person-%d", i))
	}
	return all, whole
}

// hopeless reports whether a person has no credit left when the messages are sent: three of ten.
func hopeless(i int) bool { return i%10 < 3 }

const subscribePath = "/cgi-bin/message/subscribe/send"

// TestEnforcedConsent: of a population some have declined, some have used up their acceptance, and some
// have another one left; WeChat keeps the real credits, and tells each choice by a push. The gateway is
// killed while the pushes come, and both processes while the messages are sent. No call meets 43101 of
// those that would have, and no message is stopped whose receiver has a credit.
func TestEnforcedConsent(t *testing.T) {
	t.Parallel()
	d := newDeployment(t, 30*time.Millisecond, ", consent: enforce, limits: {\"send:subscribe\": {concurrency: 4}}")
	d.start()
	d.kindsKnown()
	all, whole := persons()
	d.choices(all)
	used := make([]string, 0, len(all))
	for i, person := range all {
		if i%10 == 1 || i%10 == 3 {
			used = append(used, person)
		}
	}
	for id, r := range d.results(d.submit("first", used...), nil) {
		if r.Outcome != tasks.OutcomeAccepted {
			t.Errorf("%s: %+v", id, r)
		}
	}
	credits := make(map[string]int)
	for i, person := range all {
		credits[person] = d.wx.Credits(mini, person, oneTime)
		if want := credits[person] > 0; want == hopeless(i) {
			t.Fatalf("%s has %d credits", person, credits[person])
		}
	}
	ids := d.submit("second", all...)
	d.until("messages have ended", func() bool { return d.ended("second") >= len(ids)/4 })
	inHand := d.killBoth(mini + ":" + tasks.TypeSubscribe)
	d.start()
	if whole {
		inHand = nil // they end minutes later
	}
	d.judge(all, credits, d.results(ids, inHand))
}

// choices lets all persons answer the dialogue. The gateway is killed in the middle; all pushes are
// handled when it returns.
func (d *deployment) choices(all []string) {
	d.Helper()
	for i, person := range all {
		if i%10 == 0 {
			d.popup(person, sandbox.Reject)
		} else {
			d.popup(person, sandbox.Accept)
		}
		if i == len(all)/2 {
			must(d.T, d.gateway.Process.Kill())
			_ = d.gateway.Wait()
		}
	}
	must(d.T, d.rdb.Del(d.Context(), "wxcourier:{"+mini+"}:pushes:lease").Err())
	d.gateway = d.command("gateway")
	d.pushed()
	d.nextSecond() // a second acceptance in the same second is a repetition
	for i, person := range all {
		switch i % 10 {
		case 2:
			must(d.T, d.wx.Change(mini, person, sandbox.Choice{Template: oneTime, Status: sandbox.Reject}))
		case 3:
			d.popup(person, sandbox.Accept)
		}
	}
	d.pushed()
}

// judge compares what became of messages with the real credits before them.
func (d *deployment) judge(all []string, credits map[string]int, results map[string]tasks.Result) {
	d.Helper()
	met := d.wx.Count(sandbox.Filter{App: mini, Path: subscribePath, ErrCodes: []int{43101}})
	would, stopped, wrong, accepted, other := 0, 0, 0, 0, 0
	for _, person := range all {
		r, known := results["second-"+person]
		if !known {
			continue
		}
		if credits[person] == 0 {
			would++
		}
		switch {
		case r.Outcome == tasks.OutcomeRefused && r.Reason == worker.ReasonNoConsent:
			stopped++
			if credits[person] > 0 {
				wrong++
				d.Errorf("%s was stopped, and had %d credits", person, credits[person])
			}
		case r.Outcome == tasks.OutcomeAccepted:
			accepted++
		case r.Outcome == tasks.OutcomeUnknown && r.Reason != "": // it was in hand at the kill
			other++
		default:
			d.Errorf("%s: %+v", person, r)
		}
	}
	if saved := would - int(met); would < len(all)/5 || 100*saved < 95*would || stopped < saved {
		d.Errorf("%d messages would have met 43101, %d calls met it, %d were stopped", would, met, stopped)
	}
	d.Logf("%d persons: %d calls would have met 43101, %d did, %d messages were stopped, %d of them wrongly; %d accepted, %d unknown",
		len(results), would, met, stopped, wrong, accepted, other)
}

// TestObservedConsent: where a tenth of the pushes is lost, observe tells how many messages enforce
// would have refused although WeChat accepted them, and how many calls it would have saved.
func TestObservedConsent(t *testing.T) {
	t.Parallel()
	d := newDeployment(t, 5*time.Millisecond, ", consent: observe")
	d.start()
	d.kindsKnown()
	all, _ := persons()
	for _, person := range all {
		d.popup(person, sandbox.Reject)
	}
	d.pushed()
	_, err := d.wx.AddPushFault(sandbox.PushFault{Name: "noreceipt", Event: "subscribe_msg_popup_event", Rate: 0.1})
	must(t, err)
	d.nextSecond()
	hopeful := 0
	for i, person := range all {
		if !hopeless(i) {
			hopeful++
			d.popup(person, sandbox.Accept)
		}
	}
	d.pushed()
	lost := len(d.wx.Pushes(sandbox.PushFilter{Event: "subscribe_msg_popup_event", Status: sandbox.PushLost}))
	if lost == 0 {
		t.Fatal("no push was lost")
	}
	accepted := 0
	for id, r := range d.results(d.submit("message", all...), nil) {
		switch {
		case r.Outcome == tasks.OutcomeAccepted:
			accepted++
		case r.Outcome != tasks.OutcomeRefused || r.ErrCode != 43101:
			t.Errorf("%s: %+v", id, r)
		}
	}
	if accepted != hopeful {
		t.Errorf("%d messages were accepted, want %d: observe stops none", accepted, hopeful)
	}
	var seen struct {
		Consents []struct {
			App, Mode string
			Wrong     int
			WouldSave int `json:"would_save"`
			Stopped   int
			Missed    int
		}
	}
	d.until("it is known how wrong enforce would have been", func() bool {
		var counts struct{ Saved, Wrong int }
		d.request(http.MethodGet, "/v1/consents/"+mini, "", &counts)
		return counts.Wrong >= lost && counts.Saved >= len(all)-hopeful
	})
	must(t, json.Unmarshal([]byte(d.exec("status", "--json")), &seen))
	if len(seen.Consents) != 1 {
		t.Fatalf("status: %+v", seen)
	}
	if c := seen.Consents[0]; c.App != mini || c.Mode != "observe" || c.Wrong != lost || c.WouldSave != len(all)-hopeful || c.Stopped != 0 || c.Missed != 0 {
		t.Errorf("%+v; want %d wrong, %d that would be saved", c, lost, len(all)-hopeful)
	}
	text := d.exec("status")
	if want := fmt.Sprintf("%d (", lost); !strings.Contains(text, "WOULD BE WRONG") || !strings.Contains(text, want) || strings.Contains(text, "person-") {
		t.Errorf("status does not have %q, or has an openid:\n%s", want, text)
	}
	t.Logf("%d persons, %d of %d acceptances not heard of: enforce would have saved %d calls, and been wrong %d times",
		len(all), lost, hopeful, seen.Consents[0].WouldSave, seen.Consents[0].Wrong)
}
