package browsertest

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/wxcourier/wxcourier/internal/redistest"
)

// desktop is the view of the walk.
func desktop() View { return View{Width: 1280, Height: 900, Language: "en"} }

// URL returns the address of the page that is open.
func (p *Tab) URL() string {
	p.t.Helper()
	return Get(p, "read the address", chromedp.Location())
}

// Click clicks on the first visible element of a selector.
func (p *Tab) Click(selector string) {
	p.t.Helper()
	p.Do("click on "+selector, chromedp.Click(selector))
}

// Press clicks on the first element of a selector, when it is visible. The script of the page does
// it: between a search for the place of an element and a click there, a live update may move it.
func (p *Tab) Press(selector string) {
	p.t.Helper()
	p.Wait("there is "+selector+" to click on", fmt.Sprintf(`(() => {
		const e = document.querySelector(%q);
		if (document.readyState !== "complete" || !e || !e.checkVisibility()) return false;
		setTimeout(() => e.click());
		return true;
	})()`, selector))
}

// WaitPath waits until the page with a path is open.
func (p *Tab) WaitPath(path string) {
	p.t.Helper()
	p.Wait("the page "+path+" is open", fmt.Sprintf(`document.readyState === "complete" && location.pathname === %q`, path))
}

// clean fails the test if a page had a problem.
func (p *Tab) clean() {
	p.t.Helper()
	for _, problem := range p.Problems() {
		p.t.Error(problem)
	}
}

// An operator's day: what they do on the pages has its effect, and the pages say so.
func TestWalk(t *testing.T) {
	browser, site := StartBrowser(t), StartSite(t)
	site.Enqueue(t, "order-unknown", "lost-oPerson", "")
	site.Enqueue(t, "order-rejected", "badopenid-oPerson", "")
	site.WaitTask(t, "order-unknown", `"unknown"`)
	site.WaitTask(t, "order-rejected", `"rejected"`)
	tab := browser.Tab(t, site.URL, desktop())
	tab.SignIn(site, site.Operator)
	for _, step := range []struct {
		name string
		do   func(t *testing.T, p *Tab, s *Site)
	}{
		{"overview updates itself", walkLive},
		{"find a person and redrive", walkFind},
		{"redrive of a failure", walkFailures},
		{"hold and release", walkHold},
		{"back keeps the filters", walkBack},
		{"keyboard", walkKeyboard},
		{"language and theme", walkPreferences},
		{"campaign", walkCampaign},
		{"campaign from a message template", walkTemplate},
	} {
		if ok := t.Run(step.name, func(t *testing.T) {
			tab.t = t
			step.do(t, tab, site)
			tab.clean()
		}); !ok {
			return
		}
	}
}

// The live part changes without a reload: a mark that a reload would remove stays.
func walkLive(_ *testing.T, p *Tab, s *Site) {
	p.Open(s.URL + "/")
	p.WaitText("main", app2)
	p.Wait("the page has changed by itself", `(() => {
		if (!window.mark) window.mark = document.querySelector("[data-live]").innerText;
		return document.querySelector("[data-live]").innerText !== window.mark;
	})()`)
}

// An openid finds the person's tasks, is never in the address, and a redrive from the task's page
// sends the task again.
func walkFind(t *testing.T, p *Tab, s *Site) {
	const openid = "lost-oPerson"
	task := "/tasks/" + app2 + "/order-unknown"
	p.Do("find", chromedp.SendKeys("#nav-find", openid+"\r"))
	p.WaitPath(task)
	if at := p.URL(); strings.Contains(at, openid) {
		t.Errorf("the search led to %s", at)
	}
	p.WaitText("h1", "order-unknown")
	p.Press(`a.button[href="` + task + `/redrive"]`)
	p.WaitPath(task + "/redrive")
	p.Press(`form[action="` + task + `/redrive"] button.danger`)
	p.WaitPath(task)
	p.WaitText("p.notice.good", "order-unknown")
	s.WaitTask(t, "order-unknown", `"generation":1`)
	p.Wait("the page tells of the redrive", `!!document.querySelector("ol.timeline li.redriven")`)
	p.Do("find a stranger", chromedp.SendKeys("#nav-find", "oNobodyKnows\r"))
	p.WaitPath("/find")
	if at := p.URL(); strings.Contains(at, "oNobodyKnows") {
		t.Errorf("the search led to %s", at)
	}
}

// A row of the failures leads to the redrive of all its tasks, with their number.
func walkFailures(t *testing.T, p *Tab, s *Site) {
	p.Open(s.URL + "/failures?outcome=rejected&type=send:custom&app=" + app2)
	p.Press(`main a.button[href^="/redrive?"]`)
	p.WaitPath("/redrive")
	p.WaitText("main button.danger", "Redrive this task")
	p.Press("main button.danger")
	p.WaitPath("/failures")
	p.WaitText("p.notice.good", "1")
	s.WaitTask(t, "order-rejected", `"generation":1`)
	p.Wait("the filters are kept", `location.search.includes("outcome=rejected")`)
}

// A hold that is set on the page stops the lane, and its release lets it go on.
func walkHold(t *testing.T, p *Tab, s *Site) {
	p.Open(s.URL + "/holds")
	p.Do("fill in", chromedp.SetValue("#app", app2), chromedp.SetValue(`input[name="template"]`, "T-walk"),
		chromedp.SetValue("#reason", "<script>alert(1)</script>"))
	p.Press("#what-template")
	p.Wait("the template is chosen", `document.getElementById("what-template").checked`)
	p.Press("#ends-never")
	p.Wait("the hold has no end", `document.getElementById("ends-never").checked`)
	p.Press("form.hold button.danger")
	p.WaitText("p.notice.good", "T-walk")
	p.WaitText("[data-live]", "<script>alert(1)</script>")
	path := "/v1/holds/" + app2 + "/template:T-walk"
	redistest.Until(t, stepTimeout, "the hold is in force", func() bool {
		_, body := s.Call(t, http.MethodGet, "/v1/holds", "")
		return strings.Contains(body, "T-walk")
	})
	p.Open(s.URL + "/holds?app=" + app2)
	p.Press(`a[href*="T-walk"]`)
	p.WaitPath("/holds/release")
	p.Press("form.row button.danger")
	p.WaitPath("/holds")
	p.Do("see the notice", chromedp.WaitReady("p.notice.good"))
	if status, body := s.Call(t, http.MethodDelete, path, ""); strings.Contains(body, `"released":true`) {
		t.Errorf("the hold was still there: %d: %s", status, body)
	}
	p.Open(s.URL + "/audit")
	p.WaitText("main", "T-walk")
}

func walkPreferences(t *testing.T, p *Tab, s *Site) {
	p.Open(s.URL + "/holds")
	p.Click(`input[name="language"] + button`)
	p.Wait("the page is in Chinese", `document.documentElement.lang === "zh-CN" && location.pathname === "/holds"`)
	p.WaitText("h1", "暂停")
	p.Click(`input[name="language"] + button`)
	p.Wait("the page is in English", `document.documentElement.lang === "en"`)
	color := func() string {
		return Get(p, "read the color", chromedp.Evaluate[string](`getComputedStyle(document.body).backgroundColor`))
	}
	light := color()
	for _, theme := range []string{"light", "dark"} {
		p.Click(`input[name="theme"] + button`)
		p.Wait("the theme is "+theme, fmt.Sprintf(`document.documentElement.dataset.theme === %q`, theme))
	}
	if color() == light {
		t.Error("the dark theme has the colors of the light one")
	}
	p.Click(`input[name="theme"] + button`)
	p.Wait("the theme is the system's", `!document.documentElement.dataset.theme`)
}

// A campaign from the upload to the report. A row at fault is left out, and named in the report.
func walkCampaign(t *testing.T, p *Tab, s *Site) {
	table := filepath.Join(t.TempDir(), "people.csv")
	if err := os.WriteFile(table, []byte("openid,name\noWalk1,张三\noWalk2,<script>alert(1)</script>\nbad openid,李四\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	const template = "body:\n  touser: \"{{openid}}\"\n  msgtype: text\n  text:\n    content: \"您好，{{name}}\"\n"
	p.Open(s.URL + "/send")
	p.Do("fill in", chromedp.SetValue("#app", app2), chromedp.SetValue("#type", "send:custom"), chromedp.SetValue("#batch", "walk"),
		chromedp.SetValue("#template", template), chromedp.SetUploadFiles("#table", []string{table}))
	p.Click("form.send > p > button")
	p.WaitText("main", "Send 2 messages")
	p.check(look{name: "campaign-checked"}, desktop())
	p.TabTo(`form[action$="/confirm"] button`)
	p.confirmByKeys(func() {
		if status, body := s.Call(t, http.MethodGet, "/v1/batches/"+app2+"/walk", ""); status != http.StatusNotFound {
			t.Fatalf("the campaign has begun without a yes: %d: %s", status, body)
		}
	})
	redistest.Until(t, stepTimeout, "the batch is done", func() bool {
		_, body := s.Call(t, http.MethodGet, "/v1/batches/"+app2+"/walk", "")
		return strings.Contains(body, `"accepted":2`)
	})
	p.Wait("the page shows the end", `!!document.querySelector("[data-live] .tag.good, .tag.good")`)
	report := Get(p, "read the report", chromedp.Evaluate[string](
		`fetch(document.querySelector('a[href$="/report"]').href).then(r => r.text())`, chromedp.EvalAwaitPromise))
	for _, want := range []string{"oWalk1", "oWalk2", "accepted", "bad openid"} {
		if !strings.Contains(report, want) {
			t.Errorf("the report has no %q:\n%s", want, report)
		}
	}
	p.check(look{name: "campaign-ended"}, desktop())
	walkCampaignPhone(t, p, s)
	p.Open(s.URL + "/batches/" + app2 + "/walk")
	p.WaitText("main", "2 of 2")
}

// The page of a campaign on a phone, in Chinese and dark.
func walkCampaignPhone(t *testing.T, p *Tab, s *Site) {
	t.Helper()
	view := View{Width: 390, Height: 844, Dark: true, Language: "zh-CN"}
	phone := p.browser.Tab(t, s.URL, view)
	phone.SignIn(s, s.Operator)
	phone.Open(p.URL())
	phone.Do("see the end", chromedp.WaitReady("[data-live] .tag.good, .tag.good"))
	phone.check(look{name: "campaign-ended"}, view)
}

// A key that may only read sees no button; after a sign-out, or when the key is revoked, the pages
// are closed.
func TestSignIn(t *testing.T) {
	browser, site := StartBrowser(t), StartSite(t, "--rate", "0")
	site.Enqueue(t, "order-unknown", "lost-oPerson", "")
	site.WaitTask(t, "order-unknown", `"unknown"`)
	tab := browser.Tab(t, site.URL, desktop())
	tab.Open(site.URL + "/signin")
	tab.Do("try a wrong key", chromedp.SendKeys("#key", "wxc_no_such\r"), chromedp.WaitReady("#signin-fault"))
	tab.Problems() // the answer is 422, which the browser logs
	tab.SignIn(site, site.Reader)
	task := site.URL + "/tasks/" + app2 + "/order-unknown"
	buttons := `document.querySelectorAll("main form[method=post] button, main a.button").length`
	tab.Open(task)
	tab.WaitText("h1", "order-unknown")
	if n := Get(tab, "count the buttons", chromedp.Evaluate[int](buttons)); n != 0 {
		t.Errorf("a key that may only read sees %d buttons", n)
	}
	tab.Open(site.URL + "/holds")
	if n := Get(tab, "count the buttons", chromedp.Evaluate[int](buttons)); n != 0 {
		t.Errorf("a key that may only read sees %d buttons on the page of the holds", n)
	}
	tab.Press(`form[action="/signout"] button`)
	tab.Do("see the sign-in page", chromedp.WaitReady("#key"))
	tab.Open(task)
	tab.Do("see the sign-in page again", chromedp.WaitReady("#key"))
	tab.SignIn(site, site.Revoked)
	tab.Open(task)
	tab.Wait("a key that may operate sees a button", buttons+" > 0")
	tab.Open(site.URL + "/")
	site.Command(t, "key", "revoke", "leaver")
	tab.Do("be sent to the sign-in page", chromedp.WaitReady("#key"))
	tab.clean()
}

// The asynq web UI opens with tasks in every state.
func TestMonitor(t *testing.T) {
	browser, site := StartBrowser(t), StartSite(t, "--rate", "0")
	site.Fault(t, map[string]any{"errcode": -1, "openid": "oAlwaysBusy"})
	site.Enqueue(t, "done", "oPerson", "")
	site.Enqueue(t, "ended", "badopenid-oPerson", "")
	site.Enqueue(t, "again", "oAlwaysBusy", "")
	site.Enqueue(t, "later", "oPerson", `,"process_at":"`+time.Now().Add(time.Hour).Format(time.RFC3339)+`"`)
	site.WaitTask(t, "done", `"accepted"`)
	site.WaitTask(t, "ended", `"rejected"`)
	site.WaitTask(t, "again", `"retrying"`)
	tab := browser.Tab(t, site.URL, desktop())
	tab.SignIn(site, site.Operator)
	show := func(state, id string) {
		t.Helper()
		tab.Open(site.URL + "/monitor/queues/" + app2 + ":send:custom?status=" + state)
		tab.Wait(id+" is "+state, fmt.Sprintf(`[...document.querySelectorAll("td, th")].some(e => e.innerText.trim() === %q)`, id))
		tab.Screenshot("monitor-" + state)
	}
	site.Enqueue(t, "now", "hang9-oPerson", "")
	site.WaitTask(t, "now", `"sending"`)
	show("active", "now") // first, since it ends after 20 s
	show("completed", "done")
	show("archived", "ended")
	show("retry", "again")
	show("scheduled", "later")
	if status, body := site.Call(t, http.MethodPut, "/v1/holds/"+app2+"/send:custom", `{"reason":"test"}`); status != http.StatusOK {
		t.Fatalf("hold: %d: %s", status, body)
	}
	site.Enqueue(t, "waits", "oPerson", "")
	show("pending", "waits")
	tab.clean()
}
