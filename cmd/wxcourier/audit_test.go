package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wxcourier/wxcourier/internal/audit"
	"github.com/wxcourier/wxcourier/internal/heartbeat"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/sandbox"
)

// audited returns the entries of the audit, as `wxcourier audit --json` prints them.
func audited(t *testing.T, env []string, args ...string) (all []audit.Entry) {
	t.Helper()
	got := command(t, env, "", append([]string{"audit", "--json"}, args...)...)
	if got.status != statusDone {
		t.Fatalf("%+v", got)
	}
	for text := range strings.Lines(got.stdout) {
		var e audit.Entry
		if err := json.Unmarshal([]byte(text), &e); err != nil {
			t.Fatal(err)
		}
		all = append(all, e)
	}
	return all
}

// TestAudit: each command that changes something is recorded with the user and the host, and listed
// oldest first; one that changed nothing is not.
func TestAudit(t *testing.T) {
	t.Chdir(t.TempDir())
	env, wx := newEnv(t)
	if got := command(t, env, "", "audit"); got.status != statusDone || got.stdout != "The audit has no such entry.\n" {
		t.Errorf("%+v", got)
	}
	fault, err := wx.AddFault(sandbox.Fault{ErrCode: 47001, App: testApp})
	if err != nil {
		t.Fatal(err)
	}
	stdout, stderr, stop := background(t, env, "audit", "--follow", "--action", "cancel,redrive")
	run := func(stdin string, args ...string) {
		t.Helper()
		if got := command(t, env, stdin, args...); got.status != statusDone {
			t.Fatalf("%v: %+v", args, got)
		}
	}
	grouped := func(id string) string {
		return strings.Replace(line(id, openid), `"body"`, `"batch":"spring","process_at":"2099-01-01T00:00:00Z","body"`, 1)
	}
	run(line("rejected", openid)+grouped("a")+grouped("b")+grouped("c"), "enqueue", "-")
	_, log, stopWorker := background(t, env, "worker")
	redistest.Until(t, 20*time.Second, "the task is rejected", func() bool {
		return strings.Contains(command(t, env, "", "results").stdout, "47001")
	})
	if code := stopWorker(); code != statusDone {
		t.Errorf("worker: %d\n%s", code, log)
	}
	wx.RemoveFault(fault)

	run("", "hold", "--app", testApp, "--until", "2099-01-01T00:00:00Z", "--reason", "stopped by legal")
	run("", "hold", "--app", testApp, "--until", "2098-01-01T00:00:00Z") // changes nothing
	run("", "release", "--app", testApp)
	run("", "release", "--app", testApp) // nothing is held
	run("", "cancel", "--app", testApp, "--id", "a")
	run("b\nc\n", "cancel", "--app", testApp, "--id", "-")
	run("", "cancel", "--app", testApp, "--id", "unknown") // there is none
	run("", "cancel", "--app", testApp, "--batch", "spring")
	run("", "redrive", "--outcome", "rejected", "--dry-run")
	run("", "redrive", "--outcome", "rejected", "--errcode", "47001", "--id", "rejected", "--app", testApp)
	run("", "quota", "--app", testApp, "--clear", "--yes", "--type", "send:subscribe")

	var got []string
	all := audited(t, env)
	for _, e := range all {
		if e.By != operator() || !strings.Contains(e.By, "@") || e.Via != audit.CLI || e.App != testApp || time.Since(e.At) > time.Hour {
			t.Errorf("%+v", e)
		}
		got = append(got, fmt.Sprintf("%s %q %d %s", e.Action, e.Target, e.Count, e.Note))
	}
	want := []string{
		`hold "*" 0 stopped by legal, until 2099-01-01T00:00:00Z`, `release "*" 0 stopped by legal`, `cancel "a" 1 `, `cancel "" 2 `,
		`cancel_batch "spring" 3 `, `redrive "" 1 rejected, errcode 47001, by id`, `clear_quota "" 0 `,
	}
	if !slices.Equal(got, want) {
		t.Errorf("the audit:\n%s", strings.Join(got, "\n"))
	}
	table := command(t, env, "", "audit", "--since", "1h")
	mentions(t, "the table", table.stdout, "TIME", "stopped by legal, until", operator(), "clear_quota")
	for args, want := range map[string]int{
		"--app wxfedcba9876543210": 0, "--app " + testApp: 7, "--action hold,release": 2, "--by key:x": 0, "--by " + operator(): 7, "--limit 2": 2,
		"--since 2099-01-01T00:00:00Z": 0, "--since 1h --limit 3": 3,
	} {
		if n := len(audited(t, env, strings.Fields(args)...)); n != want {
			t.Errorf("audit %s: %d entries, want %d", args, n, want)
		}
	}
	if last := audited(t, env, "--limit", "1"); len(last) != 1 || last[0].Action != audit.ClearQuota {
		t.Errorf("the newest: %+v", last)
	}
	redistest.Until(t, 20*time.Second, "the new entries", func() bool { return strings.Count(stdout.String(), "\n") == 4 }) // and the head
	if code := stop(); code != statusDone || strings.Contains(stdout.String(), "hold") {
		t.Errorf("%d\n%s\n%s", code, stdout, stderr)
	}
	for args, want := range map[string]string{
		"--action helt": "--action", "--limit -1": "--limit", "--since yesterday": "--since", "--app x": "--app",
	} {
		if got := command(t, env, "", append([]string{"audit"}, strings.Fields(args)...)...); got.status != statusUsage || !strings.Contains(got.stderr, want) {
			t.Errorf("audit %s: %+v", args, got)
		}
	}
}

// TestGatewaysAreListed: status shows a gateway that runs, with the hash of its configuration, and
// does not count it as a worker; after its end it is gone.
func TestGatewaysAreListed(t *testing.T) {
	t.Chdir(t.TempDir())
	mini, rdb := redistest.Mini(t)
	env, _ := newEnvOn(t, mini.Addr())
	_, log, stop := background(t, env, "gateway", "--listen", "127.0.0.1:0")
	var of overview
	read := func() overview {
		t.Helper()
		of = overview{}
		if got := command(t, env, "", "status", "--json"); json.Unmarshal([]byte(got.stdout), &of) != nil {
			t.Fatalf("%+v", got)
		}
		return of
	}
	redistest.Until(t, 20*time.Second, "the gateway is listed", func() bool {
		seen := read()
		return len(seen.Gateways) == 1 && seen.Gateways[0].Configuration != nil
	})
	if g := of.Gateways[0]; g.Kind != heartbeat.Gateway || g.ID == "" || g.Host == "" || g.PID == 0 || g.Version == "" || g.Apps != 1 || g.Configuration.Hash == "" {
		t.Errorf("%+v", g)
	}
	if len(of.Replicas) != 0 {
		t.Errorf("as workers: %+v", of.Replicas)
	}
	text := command(t, env, "", "status").stdout
	mentions(t, "status", text, "Replicas: none is running", "\nGateways:\nGATEWAY", of.Gateways[0].Configuration.Hash, "serving")

	addr := regexp.MustCompile(`addr=(\S+)`).FindStringSubmatch(log.String())
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr[1]+"/v1/lanes", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	var lanes struct{ Replicas, Gateways []heartbeat.Replica }
	err = json.NewDecoder(response.Body).Decode(&lanes)
	_ = response.Body.Close()
	if err != nil || len(lanes.Replicas) != 0 || len(lanes.Gateways) != 1 {
		t.Errorf("%+v, %v", lanes, err)
	}
	if code := stop(); code != statusDone {
		t.Errorf("%d\n%s", code, log)
	}
	if all, err := heartbeat.List(t.Context(), rdb); err != nil || len(all) != 0 {
		t.Errorf("after the end: %+v, %v", all, err)
	}
}
