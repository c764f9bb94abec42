package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/tasks"
)

// TestMonitorShowsEveryState opens the asynq web UI of a gateway in Chromium while tasks are in every
// state. Each page shows what an operator looks for: ids that can be told apart, the results of
// completed tasks, the errors of archived ones and of those that are retried, and a server. None has a
// script error, or asks for something that its policy refuses. With the environment variable
// MONITOR_SCREENSHOTS it also writes a picture of each page into that folder.
func TestMonitorShowsEveryState(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	env, _, stopWeChat := newEnvToStop(t, server.Addr())
	env = append(
		env, "WXCOURIER_RESULTS_ASYNQ_RETENTION=10m",
		// The active task stays active until the end of the test.
		"WXCOURIER_WECHAT_TIMEOUT=5m", "WXCOURIER_WECHAT_ATTEMPT_TIMEOUT=6m", "WXCOURIER_WORKER_SHUTDOWN_TIMEOUT=7m",
	)
	enqueue := func(text string) string {
		t.Helper()
		got := command(t, env, text, "enqueue", "--json", "-")
		var receipt tasks.Receipt
		if err := json.Unmarshal([]byte(strings.TrimSpace(got.stdout)), &receipt); err != nil || got.status != statusDone {
			t.Fatalf("%+v, %v", got, err)
		}
		return receipt.ID
	}
	anonymous := func(to string) string { return strings.Replace(line("x", to), `"id":"x",`, "", 1) }
	if got := command(t, env, "", "hold", "--app", testApp, "--type", "send:custom", "--reason", "campaign stopped"); got.status != statusDone {
		t.Fatalf("%+v", got)
	}
	custom := `{"type":"send:custom","app":"` + testApp + `","id":"ID","body":{"touser":"` + openid + `","msgtype":"text","text":{"content":"x"}}}`
	enqueue(strings.Replace(custom, "ID", "waits-behind-the-hold", 1))
	scheduled := enqueue(strings.Replace(line("sent-later", openid), `"body"`, `"process_at":"`+time.Now().Add(time.Hour).Format(time.RFC3339)+`","body"`, 1))
	_, stderr, stop := background(t, env, "worker")
	completed, other := enqueue(anonymous(openid)), enqueue(anonymous(openid+"2"))
	archived, retried := enqueue(anonymous("badopenid-"+openid)), enqueue(anonymous("busy9-"+openid))
	active := enqueue(anonymous("hang9-" + openid))
	inspector := asynq.NewInspector(asynq.RedisClientOpt{Addr: server.Addr()})
	defer func() { _ = inspector.Close() }()
	queue := testApp + ":send:subscribe"
	for id, state := range map[string]asynq.TaskState{
		completed: asynq.TaskStateCompleted, other: asynq.TaskStateCompleted, archived: asynq.TaskStateArchived,
		retried: asynq.TaskStateRetry, active: asynq.TaskStateActive, scheduled: asynq.TaskStateScheduled,
	} {
		redistest.Until(t, time.Minute, id+" is "+state.String(), func() bool {
			info, err := inspector.GetTaskInfo(queue, testApp+":"+id)
			return err == nil && info.State == state
		})
	}

	_, gatewayStderr, stopGateway := background(t, append(env, "WXCOURIER_GATEWAY_MONITOR=full"), "gateway", "--listen", "127.0.0.1:0")
	pages := "http://" + waitForAddress(t, gatewayStderr, `msg=listening addr=(\S+)`) + "/monitor"
	cell := func(id string) string { return ">" + id + "<" } // in the column ID
	for _, page := range []struct {
		name, path string
		texts      []string
	}{
		{"active", "/queues/" + queue + "?status=active", []string{cell(active)}},
		{"pending", "/queues/" + testApp + ":send:custom?status=pending", []string{cell("waits-behind-the-hold"), ">∞<"}},
		{"scheduled", "/queues/" + queue + "?status=scheduled", []string{cell("sent-later")}},
		{"retry", "/queues/" + queue + "?status=retry", []string{cell(retried), "errcode -1", ">∞<"}},
		{"archived", "/queues/" + queue + "?status=archived", []string{cell(archived), "rejected: errcode 40003"}},
		{"completed", "/queues/" + queue + "?status=completed", []string{cell(completed), cell(other), "accepted", "msgid"}},
		{"task", "/queues/" + queue + "/tasks/" + testApp + ":" + completed, []string{"accepted", "msgid", "0/∞"}},
		{"queues", "", []string{queue, testApp + ":send:custom", "paused", "wxc-bar"}},
		{"servers", "/servers", []string{"wxcourier-replica"}},
		{"schedulers", "/schedulers", []string{"wxc-bar"}},
		{"redis", "/redis", []string{"used_memory_human"}},
		{"settings", "/settings", []string{"Polling Interval"}},
		{"help", "/help", []string{"What the buttons do to a task"}},
	} {
		url := pages + page.path
		dom, ok := inChromium(t, url, "--dump-dom")
		for _, text := range page.texts {
			if ok && !strings.Contains(dom, text) {
				t.Errorf("%s does not show %q", url, text)
			}
		}
		if folder := os.Getenv("MONITOR_SCREENSHOTS"); folder != "" && ok {
			inChromium(t, url, "--window-size=1400,900", "--screenshot="+filepath.Join(folder, page.name+".png"))
		}
	}
	stopWeChat()
	for name, stop := range map[string]func() int{"worker": stop, "gateway": stopGateway} {
		if code := stop(); code != statusDone {
			t.Errorf("%s: status %d\n%s%s", name, code, stderr, gatewayStderr)
		}
	}
}

// TestStatusListsReplicas: status lists the replicas with their version and age, also while they are
// idle, and says when there is none.
func TestStatusListsReplicas(t *testing.T) {
	env, _ := newEnv(t)
	mentions(t, "status without a worker", command(t, env, "", "status").stdout, "Replicas: none is running")
	_, stderr, stop := background(t, env, "worker")
	var status commandResult
	redistest.Until(t, 10*time.Second, "status lists the worker", func() bool {
		status = command(t, env, "", "status")
		return strings.Contains(status.stdout, "REPLICA ")
	})
	host, _ := os.Hostname()
	mentions(t, "status", status.stdout, "VERSION", "STARTED", host, "idle", time.Now().Format(time.DateOnly))
	var seen struct {
		Replicas []struct {
			ID, Host, Version string
			PID, Apps         int
			Started, Seen     time.Time
		}
	}
	if err := json.Unmarshal([]byte(command(t, env, "", "status", "--json").stdout), &seen); err != nil || len(seen.Replicas) != 1 {
		t.Fatalf("%+v, %v", seen, err)
	}
	if r := seen.Replicas[0]; r.ID == "" || r.Host != host || r.Version == "" || r.PID != os.Getpid() || r.Apps != 1 || r.Seen.IsZero() || time.Since(r.Started) > time.Minute {
		t.Errorf("%+v", r)
	}
	if code := stop(); code != statusDone {
		t.Errorf("worker: status %d\n%s", code, stderr)
	}
	mentions(t, "status after the worker", command(t, env, "", "status").stdout, "Replicas: none is running")
}
