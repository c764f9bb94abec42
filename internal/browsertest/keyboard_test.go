package browsertest

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/wxcourier/wxcourier/internal/redistest"
)

// Type presses keys, of which kb has the names.
func (p *Tab) Type(keys string) {
	p.t.Helper()
	p.Do(fmt.Sprintf("press %q", keys), chromedp.KeyEvent(keys))
}

// mostTabs is how often Tab is pressed at most: the pages have fewer elements that take the focus.
const mostTabs = 150

// TabTo presses Tab until an element of a selector has the focus, from where the focus is.
func (p *Tab) TabTo(selector string) {
	p.t.Helper()
	focused := fmt.Sprintf(`document.readyState === "complete" && !!document.activeElement && document.activeElement.matches(%q)`, selector)
	for range mostTabs {
		p.Type(kb.Tab)
		if Get(p, "see what has the focus", chromedp.Evaluate[bool](focused)) {
			return
		}
	}
	p.Screenshot("failed")
	p.t.Fatalf("%d times Tab do not lead to %s", mostTabs, selector)
}

// focusShown reports whether the element with the focus shows that it has it.
const focusShown = `(() => {
	const s = getComputedStyle(document.activeElement);
	return s.outlineStyle !== "none" && parseFloat(s.outlineWidth) > 0 || s.boxShadow !== "none";
})()`

// What an operator does works without a mouse: the skip link, the shortcuts, and the release of a hold.
func walkKeyboard(t *testing.T, p *Tab, s *Site) {
	hold := "/v1/holds/" + app2 + "/template:T-keys"
	if status, body := s.Call(t, http.MethodPut, hold, `{"reason":"keys"}`); status != http.StatusOK {
		t.Fatalf("hold: %d: %s", status, body)
	}
	p.Open(s.URL + "/failures")
	p.Type(kb.Tab)
	p.Wait("the skip link has the focus", `document.activeElement.matches("a.skip")`)
	p.Type(kb.Enter)
	p.Wait("the content has the focus", `location.hash === "#main" && document.activeElement.id === "main"`)
	p.Type("?")
	p.Wait("the shortcuts are shown", `document.getElementById("keys").open`)
	p.Type(kb.Escape)
	p.Wait("the shortcuts are closed", `!document.getElementById("keys").open`)
	p.Type("/")
	p.Wait("the search has the focus", `document.activeElement.id === "nav-find"`)
	p.Type(kb.Escape)
	p.Wait("the search has left the focus", `document.activeElement.id !== "nav-find"`)
	p.Type("g")
	p.Type("h")
	p.WaitPath("/holds")
	p.WaitText("[data-live]", "T-keys")
	p.TabTo(`a.button[href*="T-keys"]`)
	if !Get(p, "see the focus", chromedp.Evaluate[bool](focusShown)) {
		t.Error("the link to the release does not show the focus")
	}
	p.Type(kb.Enter)
	p.WaitPath("/holds/release")
	p.TabTo("main form.row button.danger")
	if !Get(p, "see the focus", chromedp.Evaluate[bool](focusShown)) {
		t.Error("the button of the release does not show the focus")
	}
	p.Type(kb.Enter)
	p.WaitPath("/holds")
	p.Do("see the notice", chromedp.WaitReady("p.notice.good"))
	redistest.Until(t, stepTimeout, "the hold is released", func() bool {
		_, body := s.Call(t, http.MethodGet, "/v1/holds", "")
		return !strings.Contains(body, "T-keys")
	})
}

// confirmByKeys answers the question of a form, whose button has the focus. Enter opens the dialog, in
// which "no" has the focus: Escape and Enter close it, and nothing happens, which undone checks. Then
// it says yes.
func (p *Tab) confirmByKeys(undone func()) {
	p.t.Helper()
	for _, answer := range []string{kb.Escape, kb.Enter} {
		p.Type(kb.Enter)
		p.Wait("the question is asked", `document.getElementById("confirm").open && document.activeElement.value === "no"`)
		p.Type(answer)
		p.Wait("the question is gone", `!document.getElementById("confirm").open`)
		undone()
	}
	p.Type(kb.Enter)
	p.Wait("the question is asked again", `document.getElementById("confirm").open`)
	p.TabTo("#confirm-yes")
	p.Type(kb.Enter)
}

// Filters are in the address, and "back" from a task shows the same list with them.
func walkBack(t *testing.T, p *Tab, s *Site) {
	for _, list := range []struct{ path, filter, value, link string }{
		{"/find", "#status", "rejected", "tbody th a.mono"},
		{"/failures", "#outcome", "rejected", `tbody a[href^="/find"]`},
	} {
		p.Open(s.URL + list.path)
		p.Do("choose the filters", chromedp.SetValue(list.filter, list.value), chromedp.SetValue(`form.filters [name="app"]`, app2))
		p.Press("form.filters button")
		p.Wait("the filters are in the address", fmt.Sprintf(`location.pathname === %q && location.search.includes(%q) && location.search.includes(%q)`,
			list.path, "="+list.value, "app="+app2))
		before := p.URL()
		p.Press(list.link)
		p.Wait("another page is open", fmt.Sprintf(`document.readyState === "complete" && location.pathname !== %q`, list.path))
		Get(p, "go back", chromedp.Evaluate[bool](`setTimeout(() => history.back()), true`)) // a page from the browser's cache is not loaded
		p.WaitPath(list.path)
		if after := p.URL(); after != before {
			t.Errorf("back leads to %s, not to %s", after, before)
		}
		for selector, want := range map[string]string{list.filter: list.value, `form.filters [name="app"]`: app2} {
			p.Wait(fmt.Sprintf("%s is %q after back", selector, want), fmt.Sprintf(`document.querySelector(%q).value === %q`, selector, want))
		}
		p.Wait("the list is there", fmt.Sprintf(`!!document.querySelector(%q)`, list.link))
	}
}
