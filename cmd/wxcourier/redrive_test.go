package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/sandbox"
)

// TestRedriveCommand: messages are rejected while a fault is on, and redriven after it is off.
func TestRedriveCommand(t *testing.T) {
	t.Chdir(t.TempDir())
	env, wx := newEnv(t)
	fault, err := wx.AddFault(sandbox.Fault{ErrCode: 47001, App: testApp})
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for i := range 30 {
		text.WriteString(line(fmt.Sprintf("m%d", i), fmt.Sprintf("%s%d", openid, i)))
	}
	grouped := strings.Replace(line("grouped", openid), `"body"`, `"batch":"spring","body"`, 1)
	if got := command(t, env, text.String()+grouped, "enqueue", "-"); got.status != statusDone {
		t.Fatalf("%+v", got)
	}
	_, stderr, stop := background(t, env, "worker")
	ended := func(n int, filter ...string) {
		t.Helper()
		redistest.Until(t, 20*time.Second, fmt.Sprintf("%d results %v", n, filter), func() bool {
			return strings.Count(command(t, env, "", append([]string{"results", "--json"}, filter...)...).stdout, "\n") == n
		})
	}
	ended(31, "--outcome", "rejected")
	wx.RemoveFault(fault)
	redrive := func(want string, args ...string) {
		t.Helper()
		got := command(t, env, "", append([]string{"redrive"}, args...)...)
		if got.status != statusDone || got.stdout != want+"\n" {
			t.Errorf("redrive %v: %+v, want %s", args, got, want)
		}
	}
	redrive("31 tasks would be redriven", "--outcome", "rejected", "--dry-run")
	redrive("0 tasks would be redriven", "--outcome", "unknown,failed", "--dry-run")
	redrive("0 tasks would be redriven", "--outcome", "rejected", "--errcode", "40037", "--dry-run")
	redrive("0 tasks redriven", "--outcome", "rejected", "--since", "2099-01-01T00:00:00Z")
	redrive("0 tasks redriven", "--outcome", "rejected", "--app", "wxfedcba9876543210")
	redrive("1 task redriven", "--outcome", "rejected", "--batch", "spring")
	redrive("2 tasks redriven, 1 did not match", "--outcome", "rejected", "--id", "m3", "--id", "m4", "--id", "unknown")
	redrive(`{"redriven":7,"resumed":0,"unmatched":0,"expired":0,"no_payload":0,"busy":0,"dry_run":false}`,
		"--outcome", "rejected,unknown", "--errcode", "47001", "--since", "1h", "--limit", "7", "--json", "--id", "m10",
		"--id", "m11", "--id", "m12", "--id", "m13", "--id", "m14", "--id", "m15", "--id", "m16", "--id", "m17")
	ended(10, "--outcome", "accepted")
	got := command(t, env, "", "redrive", "--outcome", "rejected")
	mentions(t, "redrive", got.stdout, "21 tasks redriven, 10 did not match")
	ended(31, "--outcome", "accepted")
	redrive("0 tasks redriven, 31 did not match", "--outcome", "rejected")

	for id, r := range command(t, env, "", "results", "--json", "--outcome", "accepted").results(t) {
		if r.Generation != 1 || r.Attempts != 1 {
			t.Errorf("%s: %+v", id, r)
		}
	}
	mentions(t, "the table", command(t, env, "", "results", "--outcome", "accepted").stdout, "(generation 1)")
	mentions(t, "CSV", command(t, env, "", "results", "--csv").stdout, ",generation,supersedes,", ",1,,,,,\n", ",0,,,,,\n")
	if code := stop(); code != statusDone {
		t.Errorf("worker: status %d\n%s", code, stderr)
	}
	if n := wx.Count(sandbox.Filter{Delivered: true, Path: "/cgi-bin/message/subscribe/send"}); n != 31 {
		t.Errorf("%d delivered", n)
	}
}

func TestCancelCommand(t *testing.T) {
	t.Chdir(t.TempDir())
	env, wx := newEnv(t)
	var text, ids strings.Builder
	for i := range 40 {
		text.WriteString(line(fmt.Sprintf("m%d", i), fmt.Sprintf("%s%d", openid, i)))
		fmt.Fprintf(&ids, "m%d\n", i)
	}
	text.WriteString(strings.Replace(line("grouped", openid), `"body"`, `"batch":"spring","body"`, 1))
	if got := command(t, env, text.String(), "enqueue", "-"); got.status != statusDone {
		t.Fatalf("%+v", got)
	}
	for range 2 {
		got := command(t, env, ids.String()+"\n m3 \nnobody\n", "cancel", "--app", testApp, "--id", "-")
		if got.status != statusDone || got.stdout != "40 tasks will not be sent, 1 not found\n" {
			t.Errorf("by standard input: %+v", got)
		}
		got = command(t, env, "", "cancel", "--app", testApp, "--batch", "spring")
		if got.status != statusDone || got.stdout != "1 unfinished task canceled; those not yet sent will not be\n" {
			t.Errorf("by batch: %+v", got)
		}
	}
	got := command(t, env, "m1\nnot an id\nm2\n", "cancel", "--app", testApp, "--json", "--id", "m0", "--id", "-")
	if got.status != statusFailed || got.stdout != `{"taken":3,"sending":0,"done":0,"missing":0}`+"\n" {
		t.Errorf("with a bad line: %+v", got)
	}
	mentions(t, "the message", got.stderr, "stdin:2: not an id", "1 line skipped")
	if got := command(t, env, "", "cancel", "--app", testApp, "--batch", "autumn"); got.status != statusFailed || !strings.Contains(got.stderr, "no batch autumn") {
		t.Errorf("no batch: %+v", got)
	}
	_, stderr, stop := background(t, env, "worker")
	redistest.Until(t, 20*time.Second, "all are canceled", func() bool {
		return strings.Count(command(t, env, "", "results", "--json", "--outcome", "canceled").stdout, "\n") == 41
	})
	if code := stop(); code != statusDone {
		t.Errorf("worker: status %d\n%s", code, stderr)
	}
	if n := wx.Count(sandbox.Filter{Path: "/cgi-bin/message/subscribe/send"}); n != 0 {
		t.Errorf("%d calls", n)
	}
	mentions(t, "afterwards", command(t, env, "", "cancel", "--app", testApp, "--id", "m0").stdout, "0 tasks will not be sent, 1 already ended")
	mentions(t, "afterwards", command(t, env, "", "cancel", "--app", testApp, "--batch", "spring", "--json").stdout, `{"done":1,"open":0}`)
}
