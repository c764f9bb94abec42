package main

import (
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

func TestUsage(t *testing.T) {
	redis, apps := "WXCOURIER_REDIS_ADDRS=127.0.0.1:1", "WXCOURIER_APPS_WX0123456789ABCDEF_SECRET="+secret
	for _, tt := range []struct {
		name string
		env  []string
		args string
		want []string
	}{
		{"no command", nil, "", []string{"--help"}},
		{"an unknown command", nil, "deliver", []string{"deliver", "--help"}},
		{"an unknown flag", nil, "run --sandboxed x", []string{"--sandboxed", "--sandbox"}},
		{"run without a file", nil, "run --sandbox", []string{"<file>"}},
		{"run of standard input without Redis", []string{apps}, "run -", []string{"standard input", "--journal FILE", "redis.addrs", "--sandbox"}},
		{"run of a stream without Redis", []string{apps}, "run " + os.DevNull, []string{os.DevNull + " is not a regular file", "--journal FILE", "redis.addrs"}},
		{"run without Redis and apps", nil, "run x", []string{"no app is configured"}},
		{"run with a journal and Redis", []string{redis, apps}, "run --journal j x", []string{"--journal", "redis.addrs"}},
		{"run with a journal and no app", nil, "run --journal j x", []string{"no app is configured"}},
		{"run with a journal that is a stream", []string{apps}, "run --journal - x", []string{"--journal", "name a file"}},
		{"run without apps", []string{redis}, "run x", []string{"no app is configured", "wxcourier.yaml"}},
		{"worker without Redis", []string{apps}, "worker", []string{"no Redis is configured", "redis.addrs"}},
		{"worker without apps", []string{redis}, "worker", []string{"no app is configured", "_SECRET"}},
		{"enqueue without Redis", nil, "enqueue x", []string{"no Redis is configured"}},
		{"results without Redis", nil, "results", []string{"no Redis is configured"}},
		{"status without Redis", nil, "status", []string{"no Redis is configured"}},
		{"a time that is none", []string{redis}, "results --since yesterday", []string{"yesterday", "90m"}},
		{"an outcome that is none", []string{redis}, "results --outcome lost", []string{"lost", "accepted"}},
		{"redrive without an outcome", []string{redis, apps}, "redrive", []string{"--outcome"}},
		{"redrive of what was accepted", []string{redis, apps}, "redrive --outcome accepted", []string{"accepted cannot be redriven", "WeChat accepted it", "unknown failed rejected"}},
		{"redrive of what was refused", []string{redis, apps}, "redrive --outcome failed,refused", []string{"refused cannot be redriven", "choice"}},
		{"redrive of what has expired", []string{redis, apps}, "redrive --outcome expired", []string{"not_after"}},
		{"redrive of what was canceled", []string{redis, apps}, "redrive --outcome canceled", []string{"it was canceled"}},
		{"redrive of an outcome that is none", []string{redis, apps}, "redrive --outcome lost", []string{`"lost" is not one`}},
		{"redrive of a type that is none", []string{redis, apps}, "redrive --outcome failed --type send:subscribed", []string{"--type", "send:subscribe"}},
		{"redrive since no time", []string{redis, apps}, "redrive --outcome failed --since yesterday", []string{"yesterday", "90m"}},
		{"redrive of no app", []string{redis}, "redrive --outcome failed", []string{"no app is configured", "--app"}},
		{"redrive of an id of two apps", []string{redis}, "redrive --outcome failed --id a --app wx0123456789abcdef --app wx0123456789abcde0", []string{"--id", "--app"}},
		{"redrive of fewer than none", []string{redis, apps}, "redrive --outcome failed --limit=-1", []string{"--limit"}},
		{"redrive without Redis", []string{apps}, "redrive --outcome failed", []string{"no Redis is configured"}},
		{"cancel nothing", []string{redis}, "cancel --app wx0123456789abcdef", []string{"--id", "--batch"}},
		{"cancel of no app", []string{redis}, "cancel --id a", []string{"--app"}},
		{"cancel a batch and an id", []string{redis}, "cancel --app wx0123456789abcdef --id a --batch b", []string{"--id", "--batch"}},
		{"cancel an id that is none", []string{redis}, "cancel --app wx0123456789abcdef --id a/b", []string{"a/b"}},
		{"cancel of an app that is none", []string{redis}, "cancel --app wx1 --id a", []string{"wx1"}},
		{"two forms at once", []string{redis}, "results --json --csv", []string{"--csv"}},
		{"hold without Redis", nil, "hold --app " + testApp, []string{"no Redis is configured"}},
		{"hold without an app", []string{redis}, "hold", []string{"--app"}},
		{"hold of no app", []string{redis}, "hold --app wx1", []string{"--app", `"wx1"`, "16 of the characters"}},
		{"hold of a type that is none", []string{redis}, "hold --app " + testApp + " --type send:subscibe", []string{"send:subscibe", "did you mean send:subscribe"}},
		{"hold of an empty type", []string{redis}, "hold --app " + testApp + " --type=", []string{"--type"}},
		{"release of an empty template", []string{redis}, "release --app " + testApp + " --template=", []string{"--template"}},
		{"hold of a type and a template", []string{redis}, "hold --app " + testApp + " --type send:custom --template T1", []string{"--type", "--template"}},
		{"hold until a time that has passed", []string{redis}, "hold --app " + testApp + " --until 2020-01-01T00:00:00Z", []string{"--until", "has passed"}},
		{"hold until a time that is none", []string{redis}, "hold --app " + testApp + " --until tomorrow", []string{"--until", "tomorrow", "2026-12-01T08:00:00+08:00"}},
		{"hold with a reason that is none", []string{redis}, "hold --app " + testApp + " --reason a\x1bb", []string{"--reason", "control"}},
		{"a rate that is none", nil, "dev --rate -1", []string{"--rate"}},
		{"a configuration that is not there", nil, "check -c /nowhere.yaml", []string{"/nowhere.yaml"}},
		{"a variable that is none", []string{"WXCOURIER_REDIS_ADDR=h:1"}, "status", []string{"WXCOURIER_REDIS_ADDRS"}},
		{"a log level that is none", nil, "version --log-level loud", []string{"loud"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			got := command(t, tt.env, "", strings.Fields(tt.args)...)
			wantStatus, text := statusUsage, got.stderr
			if strings.HasPrefix(tt.args, "check") {
				wantStatus, text = statusFailed, got.stdout // check prints its findings and continues
			} else if got.stdout != "" {
				t.Errorf("standard output: %q", got.stdout)
			}
			if got.status != wantStatus {
				t.Errorf("status %d, want %d", got.status, wantStatus)
			}
			mentions(t, "the message", text, tt.want...)
		})
	}
}

func TestAllMistakesAreReportedAtOnce(t *testing.T) {
	t.Chdir(t.TempDir())
	text := "redis:\n  adrs: [x]\n  db: -1\nwechat:\n  timeout: soon\npace:\n  margin: 2\napps:\n  - id: wx1\n    secret: " + secret + "\n"
	if err := os.WriteFile("wxcourier.yaml", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	got := command(t, nil, "", "worker")
	if got.status != statusUsage {
		t.Errorf("status %d", got.status)
	}
	mentions(t, "the message", got.stderr, "5 mistakes", "redis.adrs", "redis.db", "wechat.timeout", "pace.margin", "apps[0].id")
}

func TestHelpExitsWithZero(t *testing.T) {
	for _, name := range []string{"", "run", "dev", "worker", "enqueue", "results", "status", "hold", "release", "cancel", "redrive", "check", "sandbox", "version"} {
		got := command(t, nil, "", append(strings.Fields(name), "--help")...)
		if got.status != statusDone || got.stderr != "" {
			t.Errorf("%s --help: status %d, %s", name, got.status, got.stderr)
		}
		if name != "version" {
			mentions(t, name+" --help", got.stdout, "wxcourier "+name)
		}
	}
}

func TestVersion(t *testing.T) {
	got := command(t, nil, "", "version")
	if got.status != statusDone || !strings.HasPrefix(got.stdout, "wxcourier ") || strings.Count(got.stdout, "\n") != 1 {
		t.Errorf("%+v", got)
	}
	mentions(t, "version", got.stdout, runtime.Version(), runtime.GOOS+"/"+runtime.GOARCH)
}

func TestUnreachableRedis(t *testing.T) {
	t.Chdir(t.TempDir())
	file := writeTasks(t, line("a", "o"))
	env := []string{"WXCOURIER_REDIS_ADDRS=127.0.0.1:1", "WXCOURIER_APPS_WX0123456789ABCDEF_SECRET=" + secret}
	for _, args := range []string{"worker", "run " + file, "enqueue " + file, "results", "status", "cancel --app " + testApp + " --id a", "redrive --outcome failed", "check"} {
		t.Run(args, func(t *testing.T) {
			start := time.Now()
			got := command(t, env, "", strings.Fields(args)...)
			if got.status != statusFailed {
				t.Errorf("status %d", got.status)
			}
			if took := time.Since(start); took > 5*time.Second {
				t.Errorf("it took %v", took)
			}
			mentions(t, "the message", got.stdout+got.stderr, "127.0.0.1:1", "cannot be used", "redis.addrs")
		})
	}
}

func TestUnreadableInput(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, path := range []string{"missing.jsonl", "."} {
		got := command(t, nil, "", "run", "--sandbox", path)
		if got.status != statusFailed {
			t.Errorf("%s: status %d", path, got.status)
		}
		mentions(t, "the message", got.stderr, path)
	}
}
