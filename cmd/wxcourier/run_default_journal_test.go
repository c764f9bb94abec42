package main

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/wxcourier/wxcourier/sandbox"
)

// Without a Redis and without --journal, the journal is beside the input.
func TestJournalBesideTheInput(t *testing.T) {
	env, wx := newEnvWithoutRedis(t)
	input := writeTasks(t, lines(5))
	beside := input + ".journal"
	first := command(t, env, "", "run", input)
	if first.status != statusDone || len(first.results(t)) != 5 {
		t.Fatalf("%+v", first)
	}
	mentions(t, "standard error", first.stderr, beside, "the same command continues")
	if got := journalLines(t, beside); len(got["sending"]) != 5 || len(got["result"]) != 5 {
		t.Errorf("the journal has %d sendings and %d results", len(got["sending"]), len(got["result"]))
	}

	second := command(t, env, "", "run", input)
	if second.status != statusDone || len(second.results(t)) != 5 {
		t.Errorf("%+v", second)
	}
	mentions(t, "standard error", second.stderr, beside+": 5 tasks with an outcome", "5 lines already ended according to the journal")
	// --quiet leaves out the announcement, and not the journal.
	quiet := command(t, env, "", "run", "--quiet", input)
	if quiet.status != statusDone || quiet.stderr != "" || len(quiet.results(t)) != 5 {
		t.Errorf("%+v", quiet)
	}
	if n := wx.Count(sandbox.Filter{Path: "/cgi-bin/message/subscribe/send"}); n != 5 {
		t.Errorf("%d calls", n)
	}
}

// Two names of one file have one journal: else the second run would send everything again.
func TestJournalOfALinkedInput(t *testing.T) {
	env, wx := newEnvWithoutRedis(t)
	input := writeTasks(t, lines(3))
	link := filepath.Join(t.TempDir(), "today.jsonl")
	if err := os.Symlink(input, link); err != nil {
		t.Skip("no symbolic links: ", err)
	}
	for _, name := range []string{input, link} {
		if got := command(t, env, "", "run", name); got.status != statusDone || len(got.results(t)) != 3 {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if n := wx.Count(sandbox.Filter{Delivered: true}); n != 3 {
		t.Errorf("%d messages", n)
	}
}

func TestNoJournalBesideTheInput(t *testing.T) {
	env, wx := newEnv(t)
	t.Chdir(t.TempDir())
	input := writeTasks(t, lines(1))
	for name, args := range map[string][]string{
		"a configured Redis": {"run", input},
		"the sandbox":        {"run", "--sandbox", input},
		"--journal":          {"run", "--sandbox", "--journal", "j", input},
		"no such file":       {"run", input + "x"},
	} {
		got := command(t, env, "", args...)
		if (got.status == statusDone) == (name == "no such file") {
			t.Errorf("%s: %+v", name, got)
		}
	}
	withoutRedis, _ := newEnvWithoutRedis(t)
	if got := command(t, withoutRedis, "", "run", input+"x"); got.status != statusFailed {
		t.Errorf("no such file, without a Redis: %+v", got)
	}
	if files, err := filepath.Glob(filepath.Dir(input) + "/*.journal"); err != nil || len(files) > 0 {
		t.Errorf("%v, %v", files, err)
	}
	if n := wx.Count(sandbox.Filter{Delivered: true}); n != 1 {
		t.Errorf("%d messages", n)
	}
}

// A journal that cannot be kept beside the input ends the run before anything is sent.
func TestNoPlaceForTheJournal(t *testing.T) {
	env, wx := newEnvWithoutRedis(t)
	long := filepath.Join(t.TempDir(), strings.Repeat("x", 250))
	foreign := writeTasks(t, lines(1))
	readOnly := writeTasks(t, lines(1))
	for name, text := range map[string]string{long: lines(1), foreign + ".journal": "notes\n"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Dir(readOnly), 0o500); err != nil { //nolint:gosec // a folder needs x
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Chmod(filepath.Dir(readOnly), 0o700) }) //nolint:gosec // so that it can be removed
	if os.Geteuid() == 0 && runtime.GOOS == "linux" {
		readOnly = "/proc/version" // root can write to the folder above, and to this one no more than others
	}
	for input, want := range map[string]struct {
		status int
		says   string
	}{
		long:     {statusFailed, "open the journal"},
		readOnly: {statusFailed, "open the journal"},
		foreign:  {statusUsage, "its first line is not"},
	} {
		got := command(t, env, "", "run", input)
		if got.status != want.status || got.stdout != "" {
			t.Errorf("%s: %+v", input, got)
		}
		mentions(t, input, got.stderr, want.says, input+".journal", "--journal FILE")
	}
	if n := wx.Count(sandbox.Filter{}); n != 0 {
		t.Errorf("%d calls", n)
	}
}
