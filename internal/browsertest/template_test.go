package browsertest

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/wxcourier/wxcourier/internal/redistest"
)

// orderTemplate returns the id of the stand-in's template for subscribe messages about orders, after the
// gateway has read the templates of the second app.
func orderTemplate(t *testing.T, s *Site) string {
	t.Helper()
	status, body := s.Call(t, http.MethodPost, "/v1/templates/"+app2+"/refresh", "")
	if status != http.StatusOK {
		t.Fatalf("refresh of the templates: %d: %s", status, body)
	}
	var list struct{ Items []struct{ ID, Title string } }
	if err := json.Unmarshal([]byte(body), &list); err != nil {
		t.Fatal(err)
	}
	for _, item := range list.Items {
		if item.Title == "订单发货通知" {
			return item.ID
		}
	}
	t.Fatalf("the template is not in %s", body)
	return ""
}

// orders is a table whose columns have the labels of the template's fields, but for the openids and the
// goods. One row has a text that is too long, and one a time that is none.
const orders = "openid,订单编号,货物,发货时间,备注\n" +
	"oMap1,SF100,雨伞,2026-12-01 08:00,-\n" +
	"oMap2,SF101,<b>伞</b>,2026-12-01 08:00,-\n" +
	"oMap3,SF102,一二三四五六七八九十一二三四五六七八九十一,2026-12-01 08:00,-\n" +
	"oMap4,SF103,雨伞,明天,-\n"

// mapColumns fills a message template from the columns of a table, from the empty form to the result of
// the check. Each page on the way is checked as [TestPages] checks all.
func (p *Tab) mapColumns(s *Site, view View, template, batch string) {
	p.t.Helper()
	table := filepath.Join(p.t.TempDir(), "orders.csv")
	if err := os.WriteFile(table, []byte(orders), 0o600); err != nil {
		p.t.Fatal(err)
	}
	step := func(name, button, done string) {
		p.t.Helper()
		p.Press(button)
		p.Wait("there is "+done, `document.readyState === "complete" && !!document.querySelector(`+quote(done)+`)`)
		p.check(look{name: "send-" + name}, view)
	}
	p.Open(s.URL + "/send")
	p.Do("fill in", chromedp.SetValue("#app", app2), chromedp.SetValue("#type", "send:subscribe"), chromedp.SetValue("#batch", batch),
		chromedp.SetUploadFiles("#table", []string{table}))
	p.Press("form.send details summary")
	step("templates", `button[name="step"][value="fields"]`, "#from")
	p.Do("choose the template", chromedp.SetValue("#from", template))
	step("fields", `button[name="step"][value="fields"]`, "#column_thing2")
	for field, want := range map[string]string{"openid": "openid", "character_string1": "订单编号", "thing2": "", "time3": "发货时间"} {
		if got := Get(p, "read the column of "+field, chromedp.Value("#column_"+field)); got != want {
			p.t.Errorf("the column of %s is %q, want %q", field, got, want)
		}
	}
	step("missing", `button[name="step"][value="fill"]`, "#column_thing2 ~ .fault")
	p.Do("choose the column", chromedp.SetValue("#column_thing2", "货物"))
	p.Press(`button[name="step"][value="fill"]`)
	p.Wait("the template is written", `document.readyState === "complete" && document.querySelector("#template").value.includes("{{货物}}")`)
	p.Wait("the page shows it", `!!document.querySelector('form.send .notice.good[role="status"]') && location.hash === "#send-message"`)
	p.check(look{name: "send-filled"}, view)
	text := Get(p, "read the template", chromedp.Value("#template"))
	for _, want := range []string{template, `character_string1: {value: "{{订单编号}}"}`, `time3: {value: "{{发货时间}}"}`, `touser: "{{openid}}"`} {
		if !strings.Contains(text, want) {
			p.t.Errorf("the template has no %q:\n%s", want, text)
		}
	}
	p.Press("form.send > p > button")
	p.Wait("the check is done", `document.readyState === "complete" && !!document.querySelector('form[action$="/confirm"] button')`)
	p.check(look{name: "send-checked"}, view)
	p.WaitText("main", "data.thing2")
	p.WaitText("main", "data.time3")
}

// quote returns a text as a string of the page's script.
func quote(text string) string {
	quoted, _ := json.Marshal(text) //nolint:errchkjson // a string
	return string(quoted)
}

// A campaign whose template is filled from the columns of a table. Rows that do not fit the message
// template are named, and left out.
func walkTemplate(t *testing.T, p *Tab, s *Site) {
	p.mapColumns(s, desktop(), orderTemplate(t, s), "walk-template")
	p.WaitText("main", "Send 2 messages")
	p.Click(`form[action$="/confirm"] button`)
	p.Do("confirm", chromedp.Click("#confirm-yes"))
	redistest.Until(t, stepTimeout, "the batch is done", func() bool {
		_, body := s.Call(t, http.MethodGet, "/v1/batches/"+app2+"/walk-template", "")
		return strings.Contains(body, `"accepted":2`)
	})
	report := Get(p, "read the report", chromedp.Evaluate[string](
		`fetch(document.querySelector('a[href$="/report"]').href).then(r => r.text())`, chromedp.EvalAwaitPromise))
	for _, want := range []string{"oMap1", "oMap2", "oMap3", "oMap4", "accepted", "21 characters"} {
		if !strings.Contains(report, want) {
			t.Errorf("the report has no %q:\n%s", want, report)
		}
	}
}
