package sandbox

import (
	"strings"
	"testing"
)

func TestPopupAndChange(t *testing.T) {
	s, got := withReceiver(t, Options{Clock: newClock().Now}, Callback{Format: FormatJSON})
	if err := s.SetTemplates(testApp, []Template{
		{ID: "T1", Content: "{{thing1.DATA}}"}, {ID: "T2", Content: "{{thing1.DATA}}", Type: LongTerm},
	}); err != nil {
		t.Fatal(err)
	}
	send := func(template string) int {
		return post(t, s, pathSubscribe, strings.Replace(subscribeTo("oOne"), "T1", template, 1)).ErrCode
	}
	steps := []struct {
		name     string
		do       func() error
		one, two int // credits left
	}{
		{"unknown", func() error { return nil }, -1, -1},
		{"rejected", func() error { return s.Popup(testApp, "oOne", Choice{"T1", Reject}) }, 0, -1},
		{"accepted both", func() error { return s.Popup(testApp, "oOne", Choice{"T1", Accept}, Choice{"T2", Accept}) }, 1, -1},
		{"accepted again", func() error { return s.Popup(testApp, "oOne", Choice{"T1", Accept}) }, 2, -1},
		{"rejected one, which takes none away", func() error { return s.Popup(testApp, "oOne", Choice{"T1", Reject}) }, 2, -1},
		{"rejected in the settings", func() error { return s.Change(testApp, "oOne", Choice{"T2", Reject}) }, 2, 0},
	}
	for _, step := range steps {
		if err := step.do(); err != nil {
			t.Errorf("%s: %v", step.name, err)
		}
		if one, two := s.Credits(testApp, "oOne", "T1"), s.Credits(testApp, "oOne", "T2"); one != step.one || two != step.two {
			t.Errorf("%s: %d and %d credits, want %d and %d", step.name, one, two, step.one, step.two)
		}
	}
	for i, want := range []int{0, 0, 43101} {
		if code := send("T1"); code != want {
			t.Errorf("message %d: %d, want %d", i, code, want)
		}
	}
	if code := send("T2"); code != 43101 {
		t.Errorf("a rejected long-term template: %d", code)
	}
	if err := s.Popup(testApp, "oOne", Choice{"T2", Accept}); err != nil || send("T2") != 0 || send("T2") != 0 {
		t.Errorf("an accepted long-term template: %v", err)
	}
	waitPushes(t, s)
	common := `{"ToUserName":"` + originalID(testApp) + `","FromUserName":"oOne","CreateTime":"1796097600","MsgType":"event","Event":`
	wants := []string{
		common + `"subscribe_msg_popup_event","List":{"TemplateId":"T1","SubscribeStatusString":"reject","PopupScene":"0"}}`,
		common + `"subscribe_msg_popup_event","List":[{"TemplateId":"T1","SubscribeStatusString":"accept","PopupScene":"0"},{"TemplateId":"T2","SubscribeStatusString":"accept","PopupScene":"0"}]}`,
		common + `"subscribe_msg_change_event","List":{"TemplateId":"T2","SubscribeStatusString":"reject"}}`,
	}
	for _, want := range wants {
		found := false
		for _, p := range got.all() {
			found = found || p.body == want
		}
		if !found {
			t.Errorf("not pushed: %s\nbut %+v", want, got.all())
		}
	}
}

// Credits of Options apply until the first choice, and events can be lost.
func TestPopupWithDefaultCredits(t *testing.T) {
	s, got := withReceiver(t, Options{Credits: 2}, Callback{})
	if err := s.Popup(testApp, "noreceipt-oOne", Choice{"T1", Accept}); err != nil || s.Credits(testApp, "noreceipt-oOne", "T1") != 3 {
		t.Errorf("%d credits, %v", s.Credits(testApp, "noreceipt-oOne", "T1"), err)
	}
	if err := s.Popup(testApp, "oTwo", Choice{"T1", Accept}); err != nil {
		t.Error(err)
	}
	waitPushes(t, s)
	want := "<SubscribeMsgPopupEvent><List><TemplateId><![CDATA[T1]]></TemplateId><SubscribeStatusString><![CDATA[accept]]></SubscribeStatusString><PopupScene>0</PopupScene></List></SubscribeMsgPopupEvent></xml>"
	if pushes := got.all(); len(pushes) != 1 || pushes[0].openid != "oTwo" || !strings.HasSuffix(pushes[0].body, want) {
		t.Errorf("%+v", pushes)
	}
}

func TestChoiceErrors(t *testing.T) {
	s := New(Options{Apps: map[string]string{testApp: testSecret}})
	tests := []struct {
		err  error
		want string
	}{
		{s.Popup(testApp, "", Choice{"T1", Accept}), "openid"},
		{s.Popup(testApp, "oOne"), "choices is empty"},
		{s.Popup(testApp, "oOne", Choice{"", Accept}), "choices[0].template is missing"},
		{s.Popup(testApp, "oOne", Choice{"T1", Accept}, Choice{"T2", "maybe"}), "choices[1].status"},
		{s.Change(testApp, "oOne", Choice{"T1", Accept}), "choices[0].status"},
		{s.Popup("wxother", "oOne", Choice{"T1", Accept}), "unknown app"},
	}
	for _, tt := range tests {
		if tt.err == nil || !strings.Contains(tt.err.Error(), tt.want) {
			t.Errorf("%v, want %q", tt.err, tt.want)
		}
	}
}
