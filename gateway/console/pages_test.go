package console

import (
	"net/http"
	"net/url"
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
