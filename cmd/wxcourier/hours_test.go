package main

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/wxcourier/wxcourier/internal/calendar"
	"github.com/wxcourier/wxcourier/internal/inspect"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/sandbox"
	"github.com/wxcourier/wxcourier/tasks"
)

// closedNow returns hours that open two hours from now.
func closedNow() string {
	now := time.Now().In(calendar.Shanghai())
	return now.Add(2*time.Hour).Format("15:04") + "-" + now.Add(3*time.Hour).Format("15:04")
}

func TestHoursAreShownAndEnforced(t *testing.T) {
	t.Chdir(t.TempDir())
	env, wx := newEnv(t)
	hours := closedNow()
	env = append(env, "WXCOURIER_APPS_"+strings.ToUpper(testApp)+"_HOURS_SEND="+hours, "WXCOURIER_APPS_"+strings.ToUpper(testApp)+"_HOURS_CODE=00:00-24:00")
	now := line("goes", openid)
	now = strings.Replace(now, `"body"`, `"ignore_hours":true,"body"`, 1)
	if got := command(t, env, line("waits", openid)+now, "enqueue", "-"); got.status != statusDone {
		t.Fatalf("%+v", got)
	}
	_, stderr, stop := background(t, env, "worker")
	redistest.Until(t, 20*time.Second, "one is sent, the other waits", func() bool {
		return wx.Count(sandbox.Filter{Path: "/cgi-bin/message/subscribe/send"}) == 1 &&
			regexp.MustCompile(testApp+` +send:subscribe +0 +0 +0 +1 +0 +0 +-`).MatchString(command(t, env, "", "status").stdout)
	})
	if code := stop(); code != statusDone {
		t.Errorf("worker: status %d\n%s", code, stderr)
	}
	mentions(t, "the log", stderr.String(), "outside of the app's hours")
	want := testApp + " send:*: " + hours + ", held back until "
	mentions(t, "status", command(t, env, "", "status").stdout, "Hours:\n  "+testApp+" code:*: 00:00-24:00, open", want)
	mentions(t, "check", command(t, env, "", "check").stdout, "ok    hours: "+want)
	var seen overview
	if err := json.Unmarshal([]byte(command(t, env, "", "status", "--json").stdout), &seen); err != nil {
		t.Fatal(err)
	}
	if len(seen.Hours) != 2 || seen.Hours[1].Open || time.Until(seen.Hours[1].OpensAt) > 2*time.Hour || !seen.Hours[0].Open {
		t.Errorf("%+v", seen.Hours)
	}
}

// A run with --sandbox sends no messages, so it ignores the hours.
func TestSandboxRunIgnoresHours(t *testing.T) {
	t.Chdir(t.TempDir())
	env := []string{"WXCOURIER_APPS_" + strings.ToUpper(testApp) + "_SECRET=" + secret, "WXCOURIER_APPS_" + strings.ToUpper(testApp) + "_HOURS=" + closedNow()}
	got := command(t, env, line("a", openid), "run", "--sandbox", "-")
	if got.status != statusDone || got.results(t)["a"].Outcome != tasks.OutcomeAccepted {
		t.Errorf("%+v", got)
	}
}

func TestStatusLimitsTable(t *testing.T) {
	links := ratelimit.Usage{Name: "links", Window: ratelimit.PerDay, Limit: 500_000, Used: 1234, Factor: 1}
	o := overview{State: inspect.State{Lanes: []inspect.LaneUsage{
		{Lane: inspect.Lane{App: testApp, Type: "scheme:generate"}, Windows: []ratelimit.Usage{
			{Name: "scheme:generate", Window: ratelimit.PerSecond, Limit: 100, Learned: 50, Used: 12, Factor: 0.7}, links,
		}},
		{Lane: inspect.Lane{App: testApp, Type: "scheme:urllink"}, Windows: []ratelimit.Usage{
			{Name: "scheme:urllink", Window: ratelimit.PerMinute, Learned: 2000, Factor: 1}, links,
		}},
	}}}
	var text strings.Builder
	if err := o.write(&text); err != nil {
		t.Fatal(err)
	}
	_, limits, _ := strings.Cut(text.String(), "\n\n")
	limits, _, _ = strings.Cut(limits, "\nReplicas:")
	if limits != `APP                 LIMIT            WINDOW  CONFIGURED  WECHAT  USED              PACE
wx0123456789abcdef  scheme:generate  second  100         50      12 of 50          slowed to 70 %
wx0123456789abcdef  links            day     500,000     -       1,234 of 500,000  -
wx0123456789abcdef  scheme:urllink   minute  -           2,000   0 of 2,000        full
` {
		t.Errorf("%s", text.String())
	}
}
