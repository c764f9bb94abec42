package console

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/consent"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/tasks"
)

// countChecks counts checks of consent, as replicas do.
func countChecks(t *testing.T, rdb redis.UniversalClient, app string, counts map[consent.Check]int) {
	t.Helper()
	r := consent.NewRecorder(rdb, slog.New(slog.DiscardHandler), nil)
	for check, n := range counts {
		for range n {
			r.Add(app, tasks.TypeSubscribe, check)
		}
	}
	r.Flush(t.Context())
}

// TestConsentsOnTheOverview: what the checks of consent amount to is shown for apps where they are made,
// to the keys that may see the app, with a warning where enforce would often be wrong.
func TestConsentsOnTheOverview(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		modes := map[string]consent.Mode{testApp: consent.Observe, otherApp: consent.Enforce}
		s := newSite(t, rdb, func(d *Deps) {
			d.Apps = func() []App {
				return []App{{ID: testApp, Consent: modes[testApp]}, {ID: otherApp, Consent: modes[otherApp]}}
			}
		})
		countChecks(t, rdb, testApp, map[consent.Check]int{consent.CheckAllowed: 7001, consent.CheckRight: 90, consent.CheckWrong: 10})
		countChecks(t, rdb, otherApp, map[consent.Check]int{consent.CheckAllowed: 60, consent.CheckStopped: 1234, consent.CheckMissed: 2, consent.CheckUnforeseen: 3})
		for lang, words := range map[string][]string{
			"en":    {"Consent of receivers, last 7 days", "7,001", "10%", "1,234", "enforce would often be wrong", ">5<"},
			"zh-CN": {"接收者的订阅授权（近 7 天）", "未调用即拒绝", "经常误拒"},
		} {
			body := s.as(readKey).speaking(lang).get("/").body
			for _, word := range words {
				if !strings.Contains(body, word) {
					t.Errorf("%s: no %q", lang, word)
				}
			}
		}
		if body := s.as(oneAppKey).get("/").body; !strings.Contains(body, "7,001") || strings.Contains(body, "1,234") {
			t.Error("the key of one app does not see it, or sees another")
		}
		modes[testApp], modes[otherApp] = consent.Off, ""
		s.console.cache.forget("overview")
		if body := s.as(readKey).get("/").body; strings.Contains(body, "Consent of receivers") {
			t.Error("the consents of apps are shown where they are off")
		}
	})
}

// TestNewConsents: a warning needs enough messages, a recommendation that no app is wrong often; the
// app that is wrong most often comes first.
func TestNewConsents(t *testing.T) {
	all := func(string) bool { return true }
	observe := func(ids ...string) (apps []App) {
		for _, id := range ids {
			apps = append(apps, App{ID: id, Consent: consent.Observe})
		}
		return apps
	}
	for _, tt := range []struct {
		name         string
		apps         []App
		read         map[string]consent.Summary
		wrong, ready bool
		first        string
	}{
		{"nothing was checked", observe("a"), nil, false, false, "a"},
		{"few messages", observe("a"), map[string]consent.Summary{"a": {WouldSave: 10, Wrong: 9}}, false, false, "a"},
		{"right", observe("a"), map[string]consent.Summary{"a": {WouldSave: 100, Wrong: 2}}, false, true, "a"},
		{"one is wrong", observe("a", "b"), map[string]consent.Summary{"a": {WouldSave: 100}, "b": {WouldSave: 80, Wrong: 20}}, true, false, "b"},
		{"enforced", []App{{ID: "a", Consent: consent.Enforce}}, map[string]consent.Summary{"a": {WouldSave: 1, Wrong: 99}}, false, false, "a"},
	} {
		v := newConsents(tt.read, tt.apps, all)
		if v.Wrong != tt.wrong || v.Ready != tt.ready || len(v.Rows) != len(tt.apps) || v.Rows[0].App != tt.first {
			t.Errorf("%s: %+v", tt.name, v)
		}
	}
	if v := newConsents(nil, observe("a", "b"), func(app string) bool { return app == "b" }); len(v.Rows) != 1 || v.Rows[0].App != "b" {
		t.Errorf("of one app: %+v", v)
	}
	var many []string
	for range maxConsentRows + 3 {
		many = append(many, "a")
	}
	if v := newConsents(nil, observe(many...), all); len(v.Rows) != maxConsentRows || v.More != 3 {
		t.Errorf("%d rows, %d more", len(v.Rows), v.More)
	}
}
