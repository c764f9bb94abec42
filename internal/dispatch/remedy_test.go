package dispatch

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/wxcourier/wxcourier/internal/hold"
)

// TestHoldsOfVerdicts: each hold that a verdict sets either ends with its cause, or is probed and
// has a remedy. A whole app is logged as a warning, a lane's spent limit is not.
func TestHoldsOfVerdicts(t *testing.T) {
	const app = "wx0123456789abcdef"
	ends := map[string]bool{"rate_second": true, "rate_minute": true, "quota_day": true}
	reasons := map[string]bool{tokenUnavailable: true}
	for _, r := range rules {
		if r.stops != stopNothing {
			reasons[r.reason] = true
		}
		if r.tripReason != "" {
			reasons[r.tripReason] = true
		}
	}
	for reason := range reasons {
		h := hold.Hold{App: app, Scope: "send:subscribe", Reason: reason, By: hold.ReplicaPrefix + "r", Until: time.Now(), Tries: 1}
		if Probed(h) == ends[reason] {
			t.Errorf("%s: probed %t", reason, Probed(h))
		}
		if got := Remedy(h); (got == "") != (ends[reason] || reason == ReasonUnlistedCode) { // status names the latter's code
			t.Errorf("%s: the remedy is %q", reason, got)
		}
		wholeApp, again := h, h
		wholeApp.Scope, again.Tries = hold.WholeApp, 2
		level := slog.LevelWarn
		if ends[reason] {
			level = slog.LevelInfo
		}
		if holdLevel(h) != level || holdLevel(wholeApp) != slog.LevelWarn || holdLevel(again) != slog.LevelInfo {
			t.Errorf("%s is logged as %s, of an app as %s, after a probe as %s", reason, holdLevel(h), holdLevel(wholeApp), holdLevel(again))
		}
		h.By = "root@ops1"
		if Probed(h) || Remedy(h) != "" {
			t.Errorf("%s: an operator's hold is probed, or has a remedy", reason)
		}
	}
}

func TestRemedies(t *testing.T) {
	const app = "wx0123456789abcdef"
	for _, tt := range []struct {
		scope, reason string
		code          int
		want          []string
	}{
		{hold.WholeApp, appConfig, 40125, []string{"the app secret is wrong or was reset", "the workers take over a changed configuration", "wxcourier release --app " + app}},
		{hold.WholeApp, appConfig, 40001, []string{"the app secret is wrong or was reset"}},
		{hold.WholeApp, appConfig, 40164, []string{"IP whitelist"}},
		{hold.WholeApp, tokenRejected, 40001, []string{"other system", "release --app " + app}},
		{"send:custom", capability, 48001, []string{"release --app " + app + " --type send:custom"}},
		{hold.TemplateScope("T1"), ReasonTemplateHeld, 43107, []string{"release --app " + app + " --template T1,"}},
	} {
		got := Remedy(hold.Hold{App: app, Scope: tt.scope, Reason: tt.reason, Code: tt.code, By: hold.ReplicaPrefix + "r"})
		for _, want := range tt.want {
			if !strings.Contains(got, want) {
				t.Errorf("%s %d: %q does not contain %q", tt.reason, tt.code, got, want)
			}
		}
	}
}

// TestLacksToken: only holds for the lack of a token end when there is one.
func TestLacksToken(t *testing.T) {
	for _, h := range []hold.Hold{
		{Scope: hold.WholeApp, Reason: appConfig, By: hold.ReplicaPrefix + "r"},
		{Scope: hold.WholeApp, Reason: tokenUnavailable, By: hold.ReplicaPrefix + "r"},
	} {
		if !lacksToken(h) {
			t.Errorf("%+v", h)
		}
	}
	for _, h := range []hold.Hold{
		{Scope: hold.WholeApp, Reason: appConfig, By: "root@ops1"},
		{Scope: hold.WholeApp, Reason: tokenRejected, By: hold.ReplicaPrefix + "r"},
		{Scope: hold.WholeApp, Reason: "quota_day", By: hold.ReplicaPrefix + "r"},
		{Scope: "send:custom", Reason: capability, By: hold.ReplicaPrefix + "r"},
	} {
		if lacksToken(h) {
			t.Errorf("%+v", h)
		}
	}
}
