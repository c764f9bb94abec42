package console

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/wxcourier/wxcourier/internal/redistest"
)

// TestForms sends every form without a token, with a wrong one and with that of another session.
func TestForms(t *testing.T) {
	_, rdb := redistest.Mini(t)
	s := newSite(t, rdb)
	u, token := s.as(operateKey), s.as(operateKey).token()
	for _, path := range s.console.forms {
		path = strings.NewReplacer("{app}", testApp, "{id}", "x", "{batch}", "x").Replace(path)
		for name, form := range map[string]url.Values{"none": {}, "wrong": {"token": {"x"}}, "of another session": {"token": {token}}} {
			if a := u.send(http.MethodPost, path, form); a.status != http.StatusForbidden || !strings.Contains(a.body, "out of date") {
				t.Errorf("%s with the token %s: status %d\n%s", path, name, a.status, a.body)
			}
		}
	}
	if len(s.console.forms) == 0 {
		t.Error("there are no forms")
	}
}

func TestOverviewIsServed(t *testing.T) {
	_, rdb := redistest.Mini(t)
	s := newSite(t, rdb)
	for _, key := range []string{readKey, operateKey, oneAppKey} {
		for lang, title := range map[string]string{"en": "Overview", "zh-CN": "总览"} {
			if a := s.as(key).speaking(lang).get("/"); a.status != http.StatusOK || !strings.Contains(a.body, "<h1>"+title) {
				t.Errorf("%s in %s: status %d\n%s", key, lang, a.status, a.body)
			}
		}
	}
}

// TestPages opens every page, in both languages, as each kind of key: without data they are whole too.
func TestPages(t *testing.T) {
	_, rdb := redistest.Mini(t)
	s := newSite(t, rdb)
	path := strings.NewReplacer("{app}", testApp, "{id}", "x", "{batch}", "x")
	for _, key := range []string{readKey, operateKey, oneAppKey} {
		for _, lang := range []string{"en", "zh-CN"} {
			u := s.as(key).speaking(lang)
			for _, p := range s.console.pages() {
				a := u.get(path.Replace(p.path))
				if a.status >= http.StatusInternalServerError || !strings.Contains(a.body, `<html lang="`+lang+`"`) || !strings.HasSuffix(a.body, "</html>\n") {
					t.Errorf("%s as %s in %s: status %d\n%s", p.name, key, lang, a.status, a.body)
				}
				if a.header.Get("Content-Security-Policy") != policy || a.header.Get("Cache-Control") != "no-store" || a.header.Get("X-Content-Type-Options") != "nosniff" {
					t.Errorf("%s: %v", p.name, a.header)
				}
				if external.MatchString(a.body) {
					t.Errorf("%s has something from outside, or inline", p.name)
				}
			}
		}
	}
}

// external matches what the policy refuses: scripts, styles and images from elsewhere, and inline ones.
var external = regexp.MustCompile(`(?i)(src|<link[^>]*href)="(https?:)?//|<style|<script>|\sstyle=|\son[a-z]+="`)

// TestShortcuts: each page of the navigation has its own key.
func TestShortcuts(t *testing.T) {
	seen := make(map[string]string)
	for _, p := range (&Console{}).pages() {
		if p.nav && seen[p.Shortcut()] != "" {
			t.Errorf("%s and %s have the key %s", p.name, seen[p.Shortcut()], p.Shortcut())
		}
		seen[p.Shortcut()] = p.name
	}
}

// TestPreferences: language and colors are those of the browser, until they are chosen.
func TestPreferences(t *testing.T) {
	_, rdb := redistest.Mini(t)
	s := newSite(t, rdb)
	for header, want := range map[string]string{"": "en", "fr": "en", "fr, zh-TW;q=0.8": "zh-CN", "en-GB,zh": "en", "zh": "zh-CN"} {
		if a := s.visitor().speaking(header).get(signInPath); !strings.Contains(a.body, `<html lang="`+want+`">`) {
			t.Errorf("%q: not in %s", header, want)
		}
	}
	u := s.visitor()
	if a := u.send(http.MethodPost, "/preferences", url.Values{"language": {"zh"}, "next": {"/signin?next=/find"}}); a.location != "/signin?next=/find" {
		t.Errorf("to %q", a.location)
	}
	if a := u.get(signInPath); !strings.Contains(a.body, `<html lang="zh-CN">`) {
		t.Error("the language was not kept")
	}
	for _, tt := range []struct{ chosen, shown, next string }{{"dark", ` data-theme="dark"`, "auto"}, {"light", ` data-theme="light"`, "dark"}, {"pink", ` data-theme="light"`, "dark"}, {"auto", "", "light"}} {
		if a := u.send(http.MethodPost, "/preferences", url.Values{"theme": {tt.chosen}, "next": {"https://evil.example"}}); a.location != "/" {
			t.Errorf("to %q", a.location)
		}
		if a := u.get(signInPath); !strings.Contains(a.body, `<html lang="zh-CN"`+tt.shown+`>`) || !strings.Contains(a.body, `name="theme" value="`+tt.next+`"`) {
			t.Errorf("the theme %s was not kept:\n%s", tt.chosen, a.body)
		}
	}
}

// TestUnknownPages: a browser gets a page, a program a problem.
func TestUnknownPages(t *testing.T) {
	_, rdb := redistest.Mini(t)
	s := newSite(t, rdb)
	if a := s.as(readKey).get("/nowhere?x=" + script); a.status != http.StatusNotFound || !strings.Contains(a.body, "no such page") || strings.Contains(a.body, script) {
		t.Errorf("status %d\n%s", a.status, a.body)
	}
	if a := s.visitor().get("/nowhere"); a.status != http.StatusSeeOther || a.location != "/signin?next=%2Fnowhere" {
		t.Errorf("status %d, to %q", a.status, a.location)
	}
	for method, status := range map[string]int{http.MethodGet: http.StatusNotFound, http.MethodPost: http.StatusNotFound, http.MethodPut: http.StatusMethodNotAllowed} {
		r, err := http.NewRequestWithContext(t.Context(), method, s.server.URL+"/nowhere", nil)
		if err != nil {
			t.Fatal(err)
		}
		if a := s.visitor().do(r); a.status != status || a.header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: status %d, %s", method, a.status, a.header.Get("Content-Type"))
		}
	}
}

// TestStatic: the files have names for good, and come compressed.
func TestStatic(t *testing.T) {
	_, rdb := redistest.Mini(t)
	s := newSite(t, rdb)
	u := s.visitor()
	paths := regexp.MustCompile(`/static/[a-z]+\.[0-9a-f]{12}\.[a-z]+`).FindAllString(u.get(signInPath).body, -1)
	for _, kind := range []string{"text/css", "text/javascript", "image/svg+xml"} {
		i := slices.IndexFunc(paths, func(p string) bool { return strings.HasPrefix(u.get(p).header.Get("Content-Type"), kind) })
		if i < 0 {
			t.Errorf("no file of the type %s among %v", kind, paths)
			continue
		}
		a := u.get(paths[i]) // the client asks for gzip, and undoes it
		if a.status != http.StatusOK || a.body == "" || !strings.Contains(a.header.Get("Cache-Control"), "immutable") {
			t.Errorf("%s: status %d, %v", paths[i], a.status, a.header)
		}
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.server.URL+paths[i], nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Accept-Encoding", "gzip")
		if a := u.do(r); a.header.Get("Content-Encoding") != "gzip" || !strings.HasPrefix(a.body, "\x1f\x8b") {
			t.Errorf("%s: %v", paths[i], a.header)
		}
		r.Header.Set("If-None-Match", a.header.Get("ETag"))
		if a := u.do(r); a.status != http.StatusNotModified || a.body != "" {
			t.Errorf("%s: status %d", paths[i], a.status)
		}
	}
	if a := u.get("/static/style.css"); a.status != http.StatusNotFound {
		t.Errorf("status %d", a.status)
	}
}

// TestNotices: what was done is told once, on the next page.
func TestNotices(t *testing.T) {
	_, rdb := redistest.Mini(t)
	s := newSite(t, rdb)
	u := s.as(operateKey)
	s.console.handleForm("/test", page{name: "overview"}, func(w http.ResponseWriter, r *request) {
		r.notice("fault.app", script)
		r.notice("fault.scope", 12_345)
		r.redirect(w, "/")
	})
	if a := u.post("/test", nil); a.status != http.StatusSeeOther {
		t.Fatalf("status %d", a.status)
	}
	u.listen().wait("live") // does not take it away
	if body := u.get("/").body; !strings.Contains(body, "may not use the app &lt;script&gt;x") || !strings.Contains(body, "the scope 12,345.") {
		t.Errorf("no notice:\n%s", body)
	}
	if body := u.get("/").body; strings.Contains(body, "12,345") {
		t.Error("the notice is told again")
	}
	at, err := url.Parse(s.server.URL)
	if err != nil {
		t.Fatal(err)
	}
	u.client.Jar.SetCookies(at, []*http.Cookie{{ //nolint:gosec // of a browser
		Name: noticeCookie, Value: base64.RawURLEncoding.EncodeToString([]byte(`[{"text":"no.such.text","args":["x"]}]`)), Path: "/",
	}})
	if a := u.get("/"); a.status != http.StatusOK || strings.Contains(a.body, "no.such.text") {
		t.Errorf("a notice that is not ours: status %d", a.status)
	}
}

// TestLargeForms are refused, and told why.
func TestLargeForms(t *testing.T) {
	_, rdb := redistest.Mini(t)
	s := newSite(t, rdb)
	u := s.as(operateKey)
	if a := u.send(http.MethodPost, "/signout", url.Values{"x": {strings.Repeat("x", maxForm)}}); a.status != http.StatusBadRequest || !strings.Contains(a.body, "1,048,576") {
		t.Errorf("status %d\n%s", a.status, a.body)
	}
	if a := s.visitor().send(http.MethodPost, signInPath, url.Values{"key": {strings.Repeat("x", maxSignInBody)}}); a.status != http.StatusBadRequest {
		t.Errorf("status %d", a.status)
	}
}
