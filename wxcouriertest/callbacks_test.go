package wxcouriertest_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/wxcourier/wxcourier/sandbox"
	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/worker"
	"github.com/wxcourier/wxcourier/wxcouriertest"
)

func TestReceipts(t *testing.T) {
	t.Parallel()
	kit := wxcouriertest.Start(t, wxcouriertest.Options{Apps: []worker.App{{ID: app, Receipts: true}}})
	for openid, want := range map[string]tasks.DeliveryReceipt{
		"oBuyer": tasks.ReceiptDelivered, "userblock-oBuyer": tasks.ReceiptBlocked, "systemfailed-oBuyer": tasks.ReceiptFailed,
		"earlyreceipt-oBuyer": tasks.ReceiptDelivered, "twice-oBuyer": tasks.ReceiptDelivered,
	} {
		send(t, kit, "to-"+openid, openid)
		got := kit.Receipt("to-" + openid)
		if got.Outcome != tasks.OutcomeAccepted || got.Receipt != want || got.MsgID == "" || got.ReceiptAt.IsZero() {
			t.Errorf("%s: %+v", openid, got)
		}
	}
	send(t, kit, "none", "noreceipt-oBuyer")
	kit.Result("none")
	kit.WaitPushes()
	if got, err := kit.Client().Result(t.Context(), app, "none"); err != nil || got.Outcome != tasks.OutcomeAccepted || got.Receipt != "" {
		t.Errorf("without a receipt: %+v, %v", got, err)
	}
	if n := len(kit.Results()); n != 6 {
		t.Errorf("%d results of 6 messages", n)
	}

	kit.Advance(30 * time.Hour) // what WeChat pushes has the time of the kit's clock
	send(t, kit, "later", "oBuyer")
	if got := kit.Receipt("later"); got.Receipt != tasks.ReceiptDelivered || kit.Now().Sub(got.ReceiptAt).Abs() > time.Minute {
		t.Errorf("a day later: %+v", got)
	}
}

// orderTemplate is a one-time template, with a field of a list.
func orderTemplate() sandbox.Template {
	return sandbox.Template{
		ID: "T1", Title: "订单发货通知", Type: sandbox.OneTime, Content: "商品:{{thing1.DATA}}\n时段:{{enum2.DATA}}\n",
		Enums: map[string][]string{"enum2": {"上午", "下午"}},
	}
}

// notify enqueues a message of orderTemplate.
func notify(t *testing.T, kit *wxcouriertest.Kit, id, thing, when string) (tasks.Receipt, error) {
	t.Helper()
	task, err := tasks.NewSubscribeTask(app, tasks.SubscribePayload{
		ToUser: "oBuyer", TemplateID: "T1", Data: tasks.Data{"thing1": {Value: thing}, "enum2": {Value: when}},
	}, tasks.ID(id))
	if err != nil {
		t.Fatal(err)
	}
	return kit.Client().Enqueue(t.Context(), task)
}

func TestConsents(t *testing.T) {
	t.Parallel()
	kit := wxcouriertest.Start(t, wxcouriertest.Options{
		Apps:      []worker.App{{ID: app, Receipts: true, Consent: worker.ConsentEnforce}},
		Templates: map[string][]sandbox.Template{app: {orderTemplate()}},
	})
	want := func(may tasks.MaySend, credits int) {
		t.Helper()
		kit.WaitPushes()
		got, err := kit.Client().Consent(t.Context(), app, "oBuyer", "T1")
		if err != nil || got.MaySend != may || got.Credits != credits {
			t.Errorf("%+v, %v, want %s with %d credits", got, err, may, credits)
		}
	}
	want(tasks.MaySendUnknown, 0)
	if err := kit.WeChat.Popup(app, "oBuyer", sandbox.Choice{Template: "T1", Status: sandbox.Accept}); err != nil {
		t.Fatal(err)
	}
	want(tasks.MaySendYes, 1)
	if _, err := notify(t, kit, "first", "雨伞", "上午"); err != nil {
		t.Fatal(err)
	}
	if got := kit.Result("first"); got.Outcome != tasks.OutcomeAccepted {
		t.Errorf("with consent: %+v", got)
	}
	want(tasks.MaySendNo, 0)
	if _, err := notify(t, kit, "second", "雨伞", "上午"); err != nil {
		t.Fatal(err)
	}
	kit.Advance(time.Minute) // an acceptance may be on its way for 10 s
	if got := kit.Result("second"); got.Outcome != tasks.OutcomeRefused || got.Reason != worker.ReasonNoConsent {
		t.Errorf("without consent: %+v", got)
	}
	if n := kit.WeChat.CallCount(app, "oBuyer", "T1").Calls; n != 1 {
		t.Errorf("%d calls", n)
	}
}

func TestMediaChecks(t *testing.T) {
	t.Parallel()
	kit := wxcouriertest.Start(t, wxcouriertest.Options{Apps: []worker.App{{ID: app, Receipts: true}}})
	check := func(id, openid, host string) tasks.Result {
		t.Helper()
		body := `{"media_url":"https://` + host + `/a.jpg","media_type":2,"version":2,"scene":1,"openid":"` + openid + `"}`
		if _, err := kit.Client().Submit(t.Context(), tasks.Envelope{Type: tasks.TypeMediaCheck, App: app, ID: id, Body: json.RawMessage(body)}); err != nil {
			t.Fatal(err)
		}
		return kit.Result(id)
	}
	if got := check("pass", "oBuyer", "example.com"); got.Outcome != tasks.OutcomeAccepted || got.Suggest != "pass" || got.TraceID == "" {
		t.Errorf("pass: %+v", got)
	}
	if got := check("risky", "risky-oBuyer", "example.com"); got.Outcome != tasks.OutcomeAccepted || got.Suggest != "risky" {
		t.Errorf("risky: %+v", got)
	}
	if got := check("gone", "oBuyer", "example.invalid"); got.Outcome != tasks.OutcomeRejected || got.Reason != "media_download" {
		t.Errorf("gone: %+v", got)
	}
}

// The first message is compared with the templates already.
func TestTemplates(t *testing.T) {
	t.Parallel()
	kit := wxcouriertest.Start(t, wxcouriertest.Options{
		Apps:      []worker.App{{ID: app, Templates: worker.Templates{Check: "reject", Fix: true}}},
		Templates: map[string][]sandbox.Template{app: {orderTemplate()}},
	})
	var invalid *tasks.ValidationError
	if _, err := notify(t, kit, "bad", "雨伞", "晚上"); !errors.As(err, &invalid) || invalid.Fields[0].Path != "body.data.enum2.value" {
		t.Errorf("a value that is not in the list: %v", err)
	}
	if _, err := notify(t, kit, "long", strings.Repeat("伞", 25), "上午"); err != nil {
		t.Fatal(err)
	}
	if got := kit.Result("long"); got.Outcome != tasks.OutcomeAccepted || len(got.Fixed) != 1 {
		t.Errorf("a thing that is too long: %+v", got)
	}
}
