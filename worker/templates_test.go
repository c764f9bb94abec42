package worker_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/internal/templates"
	"github.com/wxcourier/wxcourier/sandbox"
	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/worker"
)

// changingTemplate stands before the sandbox with one template, which gets another field at some time.
// From then on it refuses messages without that field, as WeChat does.
type changingTemplate struct {
	next    http.Handler
	changed atomic.Bool
	asked   atomic.Int32
}

func (c *changingTemplate) content() string {
	if c.changed.Load() {
		return `商品:{{thing1.DATA}}\n时间:{{time2.DATA}}\n`
	}
	return `商品:{{thing1.DATA}}\n`
}

func (c *changingTemplate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == "/wxaapi/newtmpl/gettemplate":
		c.asked.Add(1)
		_, _ = fmt.Fprintf(w, `{"errcode":0,"errmsg":"ok","data":[{"priTmplId":"T1","title":"发货","content":"%s","example":"","type":2}]}`, c.content())
	case r.URL.Path == "/cgi-bin/template/get_all_private_template":
		_, _ = fmt.Fprint(w, `{"errcode":48001,"errmsg":"api unauthorized"}`)
	case r.URL.Path == "/cgi-bin/message/subscribe/send" && c.changed.Load():
		_, _ = fmt.Fprint(w, `{"errcode":47003,"errmsg":"argument invalid! data.time2.value is emtpy"}`)
	default:
		c.next.ServeHTTP(w, r)
	}
}

// A template changes while tasks with the old one wait. WeChat refuses them; the registry is read again,
// the log says once what changed, and what is enqueued later is compared with the new template.
func TestTemplateChangesUnderABatch(t *testing.T) {
	onEach(t, sandbox.Options{}, func(t *testing.T, r *rig) {
		target, err := url.Parse(r.url)
		if err != nil {
			t.Fatal(err)
		}
		wx := &changingTemplate{next: httputil.NewSingleHostReverseProxy(target)}
		front := httptest.NewServer(wx)
		t.Cleanup(front.Close)
		r.wechat.BaseURL = front.URL
		r.templates = worker.Templates{Check: "reject", Fix: true}
		r.replica(nil)
		cache := func() *templates.Registry { return templates.NewCache(r.rdb, nil).Get(t.Context(), app) }
		redistest.Until(t, 30*time.Second, "the templates", func() bool { return cache().Template(templates.Subscribe, "T1") != nil })
		if found := cache(); found.Check != templates.CheckReject || found.Lists[templates.Account].Refused != 48001 {
			t.Errorf("%+v", found)
		}

		const person, text = "oTemplatePerson", "SecretText"
		send := func(id, data string) (tasks.Receipt, error) {
			return tasks.NewClient(r.rdb).Submit(t.Context(), tasks.Envelope{ // a producer that starts now
				Type: tasks.TypeSubscribe, App: app, ID: id, Batch: "b", Body: json.RawMessage(`{"touser":"` + person + `","template_id":"T1","data":` + data + `}`),
			})
		}
		if _, err := send("long", `{"thing1":{"value":"`+strings.Repeat("长", 25)+`"}}`); err != nil {
			t.Fatal(err)
		}
		redistest.Until(t, 30*time.Second, "the result", func() bool { return r.outcome("long").Outcome == tasks.OutcomeAccepted })
		if fixed := r.outcome("long").Fixed; len(fixed) != 1 || fixed[0] != "data.thing1.value: cut from 25 to 20 characters" {
			t.Errorf("fixed: %q", fixed)
		}

		wx.changed.Store(true)
		if err := r.rdb.Set(t.Context(), templates.Key(app), withoutPause(t, cache()), 0).Err(); err != nil { // ten minutes pass
			t.Fatal(err)
		}
		if receipt, err := send("old", `{"thing1":{"value":"`+text+`"}}`); err != nil || receipt.Warning != "" {
			t.Fatalf("%+v, %v", receipt, err)
		}
		redistest.Until(t, 30*time.Second, "the refusal", func() bool { return r.outcome("old").ErrCode == 47003 })
		redistest.Until(t, 30*time.Second, "the new template", func() bool { return len(cache().Template(templates.Subscribe, "T1").Fields) == 2 })
		var invalid *tasks.ValidationError
		if _, err := send("new", `{"thing1":{"value":"`+text+`"}}`); !errors.As(err, &invalid) || invalid.Fields[0].Path != "body.data.time2" {
			t.Errorf("enqueued against the old template: %v", err)
		}
		log := r.log.String()
		if strings.Count(log, "message templates changed") != 1 || !strings.Contains(log, "T1: time2 is new") {
			t.Error("the log does not say once what changed")
		}
		if strings.Contains(log, person) || strings.Contains(log, text) || strings.Contains(log, "access_token=") {
			t.Error("the log has a person, a text or a token")
		}
		if n := wx.asked.Load(); n != 2 {
			t.Errorf("WeChat was asked %d times for the templates", n)
		}
	})
}

// withoutPause returns a registry as it is when its pause has passed.
func withoutPause(t *testing.T, r *templates.Registry) []byte {
	t.Helper()
	later := *r
	later.Until = later.FetchedAt
	text, err := json.Marshal(later)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
