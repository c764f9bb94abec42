package browsertest

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "wxcourier-browser")
	if err == nil {
		program, err = build(dir)
	}
	code := 1
	if err == nil {
		code = m.Run()
	} else {
		fmt.Fprintln(os.Stderr, err)
	}
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// look is a page to be looked at.
type look struct {
	name, path string
	shows      string // a text of the page: it is not empty
	foreign    bool   // its content is not ours: the rules of accessibility are not applied
	always     bool   // in each view; the others in two views, or where pictures are wanted
}

// looks are all pages, with content.
func looks() []look {
	task, receiptTask := "/tasks/"+app2+"/", "/tasks/"+app1+"/order-"
	return []look{
		{name: "overview", always: true, path: "/", shows: app1},
		{name: "overview-app", always: true, path: "/?app=" + app1, shows: "1,200"}, // with the receipts by hour
		{name: "find", path: "/find", shows: "wx00000000000000d"},
		{name: "find-filter", always: true, path: "/find?app=" + app2 + "&status=refused", shows: "43101"},
		{name: "find-none", path: "/find?id=no-such-task"},
		{name: "task-accepted", path: task + "order-accepted", shows: "order-accepted"},
		{name: "task-refused", always: true, path: task + "order-43101", shows: "43101"},
		{name: "task-rejected", path: task + "order-rejected", shows: "40003"},
		{name: "task-unknown", path: task + "order-unknown", shows: "order-unknown"},
		{name: "task-retrying", path: task + "order-retrying", shows: "-1"},
		{name: "task-scheduled", path: task + "order-scheduled", shows: "order-scheduled"},
		{name: "task-canceled", path: task + "order-canceled", shows: "order-canceled"},
		{name: "task-delivered", path: receiptTask + "delivered", shows: "order-delivered"},
		{name: "task-blocked", path: receiptTask + "blocked", shows: "order-blocked"},
		{name: "task-failed", path: receiptTask + "failed", shows: "order-failed"},
		{name: "task-without", path: receiptTask + "none", shows: "order-none"},
		{name: "find-receipts", path: "/find?app=" + app1 + "&status=receipt-blocked", shows: "order-blocked"},
		{name: "batches", path: "/batches", shows: "spring-sale"},
		{name: "batch", always: true, path: "/batches/" + app2 + "/spring-sale", shows: "spring-sale"},
		{name: "batch-receipts", always: true, path: "/batches/" + app1 + "/receipts", shows: "receipts"},
		{name: "batch-cancel", path: "/batches/" + app2 + "/spring-sale/cancel", shows: "spring-sale"},
		{name: "send", always: true, path: "/send", shows: app1},
		{name: "holds", always: true, path: "/holds", shows: "receipt"},
		{name: "failures", always: true, path: "/failures", shows: "43101"},
		{name: "redrive", path: "/redrive?outcome=unknown&app=" + app2 + "&back=/failures", shows: app2},
		{name: "codes", path: "/codes", shows: "43101"},
		{name: "webhooks", path: "/webhooks", shows: "crm"},
		{name: "webhook", path: "/webhooks/crm/" + app2, shows: "crm"},
		{name: "audit", path: "/audit", shows: "operator"},
		{name: "missing", path: "/no-such-page"},
		{name: "start", path: "/start", shows: "enqueue"},
		{name: "docs", path: "/docs", foreign: true},
		{name: "monitor", path: "/monitor", foreign: true},
	}
}

// tellMore prepares what the sample traffic of dev does not have: a task of each kind, and entries
// of the audit.
func tellMore(t *testing.T, s *Site) {
	t.Helper()
	s.Fault(t, map[string]any{"errcode": -1, "openid": "oAlwaysBusy"})
	s.Enqueue(t, "order-accepted", "oPerson", "")
	s.Fault(t, map[string]any{"errcode": 43101, "openid": "oRefuses"})
	status, body := s.Call(t, http.MethodPost, "/v1/tasks", `{"type":"send:subscribe","app":"`+app2+`","id":"order-43101","body":{"touser":"oRefuses","template_id":"T1","data":{"thing1":{"value":"已发货"}}}}`)
	if status != http.StatusAccepted {
		t.Fatalf("POST /v1/tasks: %d: %s", status, body)
	}
	s.Enqueue(t, "order-rejected", "badopenid-oPerson", "")
	s.Enqueue(t, "order-unknown", "lost-oPerson", "")
	s.Enqueue(t, "order-retrying", "oAlwaysBusy", "")
	s.Enqueue(t, "order-scheduled", "oPerson", `,"process_at":"`+time.Now().Add(time.Hour).Format(time.RFC3339)+`"`)
	s.Enqueue(t, "order-canceled", "oPerson", `,"process_at":"`+time.Now().Add(time.Hour).Format(time.RFC3339)+`"`)
	s.WaitTask(t, "order-accepted", `"accepted"`)
	s.WaitTask(t, "order-43101", `"refused"`)
	s.WaitTask(t, "order-rejected", `"rejected"`)
	s.WaitTask(t, "order-unknown", `"unknown"`)
	s.WaitTask(t, "order-retrying", `"retrying"`)
	if status, body := s.Call(t, http.MethodDelete, "/v1/tasks/"+app2+"/order-canceled", ""); status != http.StatusOK {
		t.Fatalf("cancel: %d: %s", status, body)
	}
	if status, body := s.Call(t, http.MethodPut, "/v1/holds/"+app1+"/scheme:urllink", `{"reason":"<script>alert(1)</script>"}`); status != http.StatusOK {
		t.Fatalf("hold: %d: %s", status, body)
	}
}

// SignIn signs a tab in.
func (p *Tab) SignIn(s *Site, key string) {
	p.t.Helper()
	p.Open(s.URL + "/signin")
	p.Do("sign in", chromedp.SendKeys("#key", key+"\r"), chromedp.WaitReady("nav.pages"))
}

// Each page in each view: no error of a script, no breach of the policy, no request to another host,
// no serious finding of axe-core, and nothing wider than the screen.
func TestPages(t *testing.T) {
	browser, site := StartBrowser(t), StartSite(t)
	tellMore(t, site)
	template := orderTemplate(t, site)
	tellReceipts(t, site)
	for i, view := range Views() {
		thorough := i%7 == 0 // desktop in English and light, phone in Chinese and dark
		if testing.Short() && !thorough {
			continue
		}
		t.Run(view.String(), func(t *testing.T) {
			tab := browser.Tab(t, site.URL, view)
			tab.Open(site.URL + "/signin")
			tab.check(look{name: "signin"}, view)
			tab.SignIn(site, site.Operator)
			for _, l := range looks() {
				if !l.always && !thorough && os.Getenv("SCREENSHOTS") == "" {
					continue
				}
				tab.Open(site.URL + l.path)
				if l.shows != "" {
					tab.WaitText("body", l.shows)
				}
				tab.check(l, view)
			}
			if thorough || os.Getenv("SCREENSHOTS") != "" {
				tab.mapColumns(site, view, template, "map-"+view.String())
			}
		})
	}
}

// check checks the page that is open.
func (p *Tab) check(l look, view View) {
	p.t.Helper()
	p.Screenshot(l.name + "-" + view.String())
	if !l.foreign {
		for _, finding := range p.Axe(p.t) {
			p.t.Errorf("%s: %v", l.name, finding)
		}
		type size struct {
			Wide   int64
			Widest string
		}
		s := Get(p, "measure the page", chromedp.Evaluate[size](fmt.Sprintf(`(() => {
			const wide = document.scrollingElement.scrollWidth;
			let widest = "", right = %d; // innerWidth of a phone grows with what is too wide
			for (const e of document.querySelectorAll("main *, header *, footer *")) {
				const r = e.getBoundingClientRect().right;
				if (r > right + 1 && !e.closest(".scroll, nav.pages, pre")) { right = r; widest = e.outerHTML.slice(0, 200); }
			}
			return {Wide: wide, Widest: widest};
		})()`, view.Width)))
		if s.Wide > view.Width {
			p.t.Errorf("%s: %d pixels wide in a window of %d; the widest is %s", l.name, s.Wide, view.Width, s.Widest)
		}
	}
	for _, problem := range p.Problems() {
		if l.name == "missing" && strings.Contains(problem, "404") {
			continue
		}
		if l.name == "send-missing" && strings.Contains(problem, "422") {
			continue
		}
		if l.name == "monitor" && strings.HasPrefix(problem, "rendering:") { // asynqmon's chart on a narrow screen
			continue
		}
		p.t.Errorf("%s: %s", l.name, problem)
	}
}
