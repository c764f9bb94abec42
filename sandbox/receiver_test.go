package sandbox_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/wxcourier/wxcourier/sandbox"
	"github.com/wxcourier/wxcourier/wechat/callback"
)

// The package that receives pushes shares no code with the sandbox, and reads all that it pushes.
func TestReceiverReadsPushes(t *testing.T) {
	const app, token, key = "wx0123456789abcdef", "push-token", "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG"
	for _, c := range []sandbox.Callback{
		{Format: sandbox.FormatXML}, {Format: sandbox.FormatJSON}, {Format: sandbox.FormatXML, AESKey: key}, {Format: sandbox.FormatJSON, AESKey: key},
	} {
		t.Run(c.Format+c.AESKey, func(t *testing.T) {
			got := make(chan callback.Push, 10)
			receiver := httptest.NewServer(&callback.Handler{
				Keys: callback.Keys{App: app, Token: token, AESKey: c.AESKey},
				Push: func(_ context.Context, _ callback.Message, p callback.Push) ([]byte, error) {
					got <- p
					return nil, nil
				},
			})
			defer receiver.Close()
			c.URL, c.Token = receiver.URL, token
			wx := sandbox.New(sandbox.Options{
				Callbacks: map[string]sandbox.Callback{app: c}, Pushes: sandbox.PushOptions{Interval: time.Millisecond},
			})
			url, stop := wx.Start()
			defer stop()
			if err := wx.VerifyCallback(t.Context(), app); err != nil {
				t.Error(err)
			}
			bearer := call(t, http.MethodGet, url+"/cgi-bin/token?grant_type=client_credential&appid="+app+"&secret=x", "", `"access_token":"`)
			next := func() callback.Push {
				select {
				case p := <-got:
					if p.Created.IsZero() || time.Since(p.Created) > time.Hour || p.From == "" || !strings.HasPrefix(p.To, "gh_") || p.Type != "event" {
						t.Errorf("%+v", p)
					}
					return p
				case <-time.After(30 * time.Second):
					t.Fatalf("nothing arrives: %+v", wx.Pushes(sandbox.PushFilter{}))
					return callback.Push{}
				}
			}
			message := func(openid string) string {
				return `{"touser":"` + openid + `","template_id":"T1","data":{"thing1":{"value":"a"}}}`
			}
			sends := []struct {
				path, openid, event, template, status string
				delivery                              callback.Delivery
			}{
				{"subscribe/send", "oOne", callback.EventSubscribeSent, "T1", "success", callback.Delivered},
				{"subscribe/bizsend", "oOne", callback.EventSubscribeSent, "T1", "success", callback.Delivered},
				{"subscribe/send", "userblock-oOne", callback.EventSubscribeSent, "T1", "20001 failed:user block", callback.Blocked},
				{"subscribe/send", "systemfailed-oOne", callback.EventSubscribeSent, "T1", "20001 failed: system failed", callback.Failed},
				{"template/send", "oOne", callback.EventTemplateSent, "", "success", callback.Delivered},
				{"template/send", "userblock-oOne", callback.EventTemplateSent, "", "failed:user block", callback.Blocked},
				{"template/send", "systemfailed-oOne", callback.EventTemplateSent, "", "failed: system failed", callback.Failed},
			}
			for _, s := range sends {
				id := call(t, http.MethodPost, url+"/cgi-bin/message/"+s.path+"?access_token="+bearer, message(s.openid), `"msgid":`)
				want := []callback.Receipt{{MsgID: id, TemplateID: s.template, Delivery: s.delivery, Status: s.status}}
				if p := next(); p.Event != s.event || p.From != s.openid || !reflect.DeepEqual(p.Receipts, want) {
					t.Errorf("%+v, want %+v", p, want)
				}
			}
			for address, want := range map[string]callback.MediaCheck{
				"https://example.com/a.png": {Suggest: "pass", Label: "100"},
				"https://cdn.invalid/a.png": {ErrCode: -1008},
			} {
				want.TraceID = call(t, http.MethodPost, url+"/wxa/media_check_async?access_token="+bearer,
					`{"media_url":"`+address+`","media_type":2,"version":2,"scene":1,"openid":"oOne"}`, `"trace_id":"`)
				if p := next(); p.Event != callback.EventMediaCheck || p.MediaCheck == nil || *p.MediaCheck != want {
					t.Errorf("%+v: %+v, want %+v", p, p.MediaCheck, want)
				}
			}
			if err := wx.Popup(app, "oOne", sandbox.Choice{Template: "T1", Status: sandbox.Accept}, sandbox.Choice{Template: "T2", Status: sandbox.Reject}); err != nil {
				t.Fatal(err)
			}
			if p := next(); p.Event != callback.EventPopup || !reflect.DeepEqual(p.Choices, []callback.Choice{{TemplateID: "T1", Status: "accept", Scene: "0"}, {TemplateID: "T2", Status: "reject", Scene: "0"}}) {
				t.Errorf("%+v", p)
			}
			if err := wx.Change(app, "oOne", sandbox.Choice{Template: "T1", Status: sandbox.Reject}); err != nil {
				t.Fatal(err)
			}
			if p := next(); p.Event != callback.EventChange || !reflect.DeepEqual(p.Choices, []callback.Choice{{TemplateID: "T1", Status: "reject"}}) {
				t.Errorf("%+v", p)
			}
			call(t, http.MethodPost, url+"/cgi-bin/message/template/send?access_token="+bearer, message("badsignature-oOne"), `"msgid":`)
			if err := wx.WaitPushes(t.Context()); err != nil || len(got) != 0 {
				t.Errorf("a forged push was taken: %v", err)
			}
		})
	}
}

// call makes a request, and returns what follows a text in its answer, up to the next quote, comma or brace.
func call(t *testing.T, method, url, body, after string) string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(res.Body)
	_ = res.Body.Close()
	_, value, found := strings.Cut(string(answer), after)
	if err != nil || !found {
		t.Fatalf("%s: %v", answer, err)
	}
	return value[:strings.IndexAny(value, `",}`)]
}
