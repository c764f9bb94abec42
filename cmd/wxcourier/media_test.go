package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/tasks"
)

// mediaLine is the JSON line of a check of a file on a host, for a person.
func mediaLine(id, host, person string) string {
	return fmt.Sprintf(`{"type":"seccheck:media","app":%q,"id":%q,"body":{"media_url":"https://%s/a.png","media_type":2,"version":2,"scene":1,"openid":%q}}`,
		testApp, id, host, person) + "\n"
}

// TestRunChecksMediaInTheSandbox: the sandbox's pushes end the checks of a run, of configured apps and of
// any others, also with a journal.
func TestRunChecksMediaInTheSandbox(t *testing.T) {
	lines := line("message", "oA") + mediaLine("pass", "example.com", "oB") + mediaLine("risky", "example.com", "risky-oC") + mediaLine("gone", "files.invalid", "oD")
	file := writeTasks(t, lines)
	journal := filepath.Join(t.TempDir(), "journal")
	for _, args := range [][]string{{"run", "--sandbox", file}, {"run", "--sandbox", "--journal", journal, file}, {"run", "--sandbox", "--journal", journal, file}} {
		r := command(t, nil, "", args...)
		if r.status != 0 {
			t.Fatalf("%v: status %d\n%s", args, r.status, r.stderr)
		}
		got := r.results(t)
		for id, want := range map[string]tasks.Result{
			"message": {Outcome: tasks.OutcomeAccepted},
			"pass":    {Outcome: tasks.OutcomeAccepted, Suggest: "pass"},
			"risky":   {Outcome: tasks.OutcomeAccepted, Suggest: "risky"},
			"gone":    {Outcome: tasks.OutcomeRejected, Reason: "media_download"},
		} {
			if r := got[id]; r.Outcome != want.Outcome || r.Suggest != want.Suggest || r.Reason != want.Reason {
				t.Errorf("%v: %s: %+v", args, id, r)
			}
		}
	}
}

// TestMediaChecksNeedACallback: run refuses a check whose verdict cannot arrive, enqueue and send warn of
// it, and so does check where there are such tasks.
func TestMediaChecksNeedACallback(t *testing.T) {
	mini, _ := redistest.Mini(t)
	env, _ := newEnvOn(t, mini.Addr())
	file := writeTasks(t, mediaLine("m1", "example.com", "oA")+line("message", "oB"))
	withoutRedis := env[1:]
	for what, r := range map[string]commandResult{
		"a journal": command(t, withoutRedis, "", "run", file),
		"a Redis":   command(t, env, "", "run", file),
	} {
		if r.status != 1 || r.results(t)["message"].Outcome != tasks.OutcomeAccepted || len(r.results(t)) != 1 {
			t.Errorf("run with %s: status %d\n%s%s", what, r.status, r.stdout, r.stderr)
		}
		mentions(t, what, r.stderr, ":1: ", "seccheck:media ends with a push", "gateway.callback_listen")
	}
	if r := command(t, env, "", "check"); strings.Contains(r.stdout+r.stderr, "seccheck:media") {
		t.Errorf("check, of an app without such tasks: %s", r.stdout)
	}
	r := command(t, env, "", "enqueue", file)
	mentions(t, "enqueue", r.stderr, ":1: warning: the app has no callback")
	if r.status != 0 || strings.Count(r.stderr, "warning") != 1 {
		t.Errorf("enqueue: status %d\n%s", r.status, r.stderr)
	}
	mentions(t, "enqueue --json", command(t, env, "", "enqueue", "--json", file).stdout, `"warning":"the app has no callback`)
	mentions(t, "check", command(t, env, "", "check").stdout, "seccheck:media", "callback is not configured")

	table := filepath.Join(filepath.Dir(file), "files.csv")
	write(t, table, "url,openid\nhttps://example.com/b.png,oC\n")
	template := filepath.Join(filepath.Dir(file), "template.yaml")
	write(t, template, "type: seccheck:media\nbatch: files\nbody: {media_url: '{{url}}', media_type: 2, version: 2, scene: 1, openid: '{{openid}}'}\n")
	r = command(t, env, "", "send", "--table", table, "--template", template, "--dry-run")
	mentions(t, "send", r.stderr, "warning: the app has no callback")

	withCallback := append(env[:len(env):len(env)], "WXCOURIER_APPS_"+strings.ToUpper(testApp)+"_CALLBACK_TOKEN=token1234")
	if r := command(t, withCallback, "", "enqueue", file); strings.Contains(r.stderr, "warning") {
		t.Errorf("with a callback: %s", r.stderr)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
