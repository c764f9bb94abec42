package browsertest

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/wxcourier/wxcourier/internal/redistest"
)

// desktop is the view of the walk.
func desktop() View { return View{Width: 1280, Height: 900, Language: "en"} }

// Click clicks on the first visible element of a selector.
func (p *Tab) Click(selector string) {
	p.t.Helper()
	p.Do("click on "+selector, chromedp.Click(selector))
}

// Confirm says yes to the question of a form.
func (p *Tab) Confirm() {
	p.t.Helper()
	p.Do("confirm", chromedp.Click("#confirm-yes"))
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
	tab := browser.Tab(t, site.URL, desktop())
	tab.SignIn(site, site.Operator)
	for _, step := range []struct {
		name string
		do   func(t *testing.T, p *Tab, s *Site)
	}{
		{"overview updates itself", walkLive},
		{"language and theme", walkPreferences},
		{"campaign", walkCampaign},
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
	p.Click(`form[action$="/confirm"] button`)
	p.Confirm()
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
	p.Open(s.URL + "/batches/" + app2 + "/walk")
	p.WaitText("main", "2 of 2")
}
