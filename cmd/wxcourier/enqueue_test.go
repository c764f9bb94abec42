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
	if got.status != statusFailed || strings.Count(got.stdout, `"differs":true`) != 1 || strings.Count(got.stdout, "\n") != 2 {
		t.Errorf("enqueue --json: %+v", got)
	}
	mentions(t, "the answers", got.stdout, `{"line":1,"app":"`+testApp+`","id":"b",`,
		`{"line":2,"app":"`+testApp+`","id":"a","error":"enqueue a: tasks: the id belongs to a task of another type: send:subscribe"}`)
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

// TestFilesOfOtherFormats: a table, or JSON that is not one task per line, gets one line that says
// what it looks like and what is expected; valid lines in it are enqueued.
func TestFilesOfOtherFormats(t *testing.T) {
	t.Chdir(t.TempDir())
	env, _ := newEnv(t)
	table := "openid,template,amount\n" + strings.Repeat(openid+",T1,5\n", 30)
	for name, tt := range map[string]struct{ text, says string }{
		"CSV":             {table, "stdin:1: this looks like CSV (3 columns); expected are JSON Lines: one task per line, such as {\"type\":"},
		"tabs":            {strings.ReplaceAll(table, ",", "\t"), "a table with tabs (3 columns)"},
		"semicolons":      {"\uFEFF" + strings.ReplaceAll(table, ",", ";"), "CSV with semicolons (3 columns)"},
		"a JSON array":    {"[\n" + strings.TrimSpace(line("array", openid)) + "\n]\n", "a JSON array"},
		"an indented one": {"{\n  \"type\": \"send:subscribe\",\n  \"app\": \"" + testApp + "\"\n}\n", "JSON over several lines"},
		"an Excel file":   {"PK\x03\x04\x14\x00\n\x00,\x00", "an Excel file"},
	} {
		for _, subcommand := range []string{"enqueue", "run"} {
			got := command(t, env, tt.text, subcommand, "-")
			if got.status != statusFailed || strings.Count(got.stderr, "stdin:") != 1 {
				t.Errorf("%s, %s: status %d, standard error:\n%s", name, subcommand, got.status, got.stderr)
			}
			mentions(t, subcommand+" "+name, got.stderr, tt.says)
		}
	}
	got := command(t, env, "openid,template\nx,y\n"+line("good", openid)+"z\n", "enqueue", "-")
	if got.stdout != "1 task enqueued, 3 lines skipped as invalid\n" || strings.Count(got.stderr, "stdin:") != 1 {
		t.Errorf("with a task in it: %+v", got)
	}
}
