package main

import (
	"fmt"
	"strings"
	"testing"
)

// TestLinesWithConflictingBodies: enqueue and run report a line whose id was enqueued with
// another body or another type. Of many such lines they name the first twenty.
func TestLinesWithConflictingBodies(t *testing.T) {
	t.Chdir(t.TempDir())
	env, _ := newEnv(t)
	later := func(text string) string {
		return strings.ReplaceAll(text, `"body"`, `"process_at":"2099-01-01T00:00:00Z","body"`)
	}
	if got := command(t, env, later(line("a", openid)+line("b", openid)), "enqueue", "-"); got.status != statusDone {
		t.Fatalf("%+v", got)
	}
	link := `{"type":"scheme:urllink","app":"` + testApp + `","id":"a","body":{"path":"p"}}` + "\n"
	text := later(line("b", "another-"+openid)) + link

	got := command(t, env, text, "enqueue", "--json", "-")
	if got.status != statusFailed || strings.Count(got.stdout, `"differs":true`) != 1 || strings.Count(got.stdout, "\n") != 1 {
		t.Errorf("enqueue --json: %+v", got)
	}
	mentions(t, "enqueue", got.stderr, "stdin:1: not sent: a task with the id b and another body is already enqueued",
		"stdin:2: enqueue a: tasks: the id belongs to a task of another type: send:subscribe", "1 line could not be enqueued")
	summary := command(t, env, text, "enqueue", "-")
	if summary.stdout != "0 tasks enqueued, 1 task already enqueued, 1 of those with a different body, 1 line skipped as invalid\n" {
		t.Errorf("enqueue: %q", summary.stdout)
	}

	const named = 20
	many, others := "", ""
	for i := range named + 5 {
		many += line(fmt.Sprint("m", i), openid)
		others += line(fmt.Sprint("m", i), "another-"+openid)
	}
	if got := command(t, env, many, "run", "-q", "-"); got.status != statusDone {
		t.Fatalf("%+v", got)
	}
	run := command(t, env, others+link, "run", "-q", "-")
	if run.status != statusFailed || strings.Count(run.stderr, "another body is already enqueued") != named {
		t.Errorf("run: %+v", run)
	}
	mentions(t, "run", run.stderr, "stdin: 5 more not sent", "stdin:26: enqueue a: tasks: the id belongs to a task of another type")
	mentions(t, "the summary", command(t, env, others, "run", "-").stderr, "25 lines of those with a different body")
}
