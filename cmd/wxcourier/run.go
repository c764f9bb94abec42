package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/wxcourier/wxcourier/configs"
	"github.com/wxcourier/wxcourier/internal/app/filerun"
	"github.com/wxcourier/wxcourier/internal/describe"
	"github.com/wxcourier/wxcourier/internal/images"
	"github.com/wxcourier/wxcourier/internal/journal"
	"github.com/wxcourier/wxcourier/internal/summary"
	"github.com/wxcourier/wxcourier/tasks"
)

type runCommand struct {
	File    string        `arg:"" help:"JSON Lines, one task per line; - is standard input."`
	Sandbox bool          `help:"Send to a stand-in for WeChat inside this process: no messages are sent. A configured Redis is not used."`
	Strict  bool          `help:"Exit with 1 unless every task is accepted."`
	Images  images.Folder `placeholder:"DIR" help:"Write the images of codes into DIR, as <app>-<id>.png or .jpg."`
	Journal string        `placeholder:"FILE" help:"Without a Redis: record requests and results in FILE, so that the same command can continue. Default: the input's name with .journal added, beside the input."`
	Quiet   bool          `short:"q" help:"Print no progress and no summary."`

	defaultJournal bool // Journal was not given and is beside the input
}

func (runCommand) Help() string {
	return `Enqueues each line, delivers it with a worker inside this process, and prints one result per task to standard output, as JSON Lines in the order in which the tasks end. An invalid line is reported on standard error and skipped. The exit status is 0 when every line has an outcome, and 1 when there were invalid lines or tasks that failed or whose outcome is unknown.

Without --sandbox it keeps a record of what was sent: in the configured Redis, or else in a journal, which is beside the input (tasks.jsonl.journal) unless --journal names another file. The same command then continues an interrupted run, and nothing is sent twice. Standard input requires --journal.

With a journal the Redis is inside this process. Tasks with an outcome in the journal are not sent; their results are printed again, so that the output is complete each time. A task whose request was in flight when the run was interrupted is sent again where that is harmless (links, codes, checks, and template messages within ten minutes); otherwise it ends as unknown. To send an ended task again, give its line another id. The journal holds ids and results. It does not hold bodies, images of codes (use --images), attempts that WeChat refused temporarily, or the use of limits except the daily ones, as far as the journal shows it. Only one run at a time can use a journal; one journal can serve several files.

The run waits for tasks with process_at. Ctrl-C finishes the tasks in flight and leaves the rest; a second Ctrl-C quits at once.

Examples:
    wxcourier run --sandbox examples/tasks.jsonl
    wxcourier run tasks.jsonl -c wxcourier.yaml > results.jsonl
    wxcourier run tasks.jsonl --journal /var/lib/wxcourier/tasks.journal > results.jsonl
    generate-tasks | wxcourier run --journal tasks.journal - > results.jsonl
    generate-tasks | wxcourier run --sandbox --images codes -`
}

// Run enqueues and delivers the file.
func (c *runCommand) Run(p *program) error {
	cfg, err := p.configuration()
	if err != nil {
		return err
	}
	c.chooseJournal(cfg)
	if err := c.validate(p, cfg); err != nil {
		return err
	}
	if err := c.Images.Make(); err != nil {
		return err
	}
	in, err := p.open(c.File)
	if err != nil {
		return err
	}
	defer in.close()
	run, err := filerun.Open(p.ctx, c.config(p, cfg, in))
	if err != nil {
		return c.openError(err)
	}
	defer func() {
		if err := run.Close(); err != nil {
			p.notef("%v", err)
		}
	}()
	c.announce(p, run.JournalState())
	report, err := run.Deliver(p.ctx)
	p.stderr.Status("")
	if report == nil {
		return err
	}
	if !c.Quiet {
		if err := report.Results.Write(p.stderr); err != nil {
			return err
		}
		p.notef("%s", summaryText(report))
	}
	return errors.Join(err, c.problems(report), report.ReplicaErr)
}

// chooseJournal puts the journal beside the input where a run that sends has no other record.
func (c *runCommand) chooseJournal(cfg configs.Config) {
	if c.Sandbox || cfg.Redis.Configured() || c.Journal != "" || !c.repeatable() {
		return
	}
	file := c.File
	if target, err := filepath.EvalSymlinks(file); err == nil {
		file = target // a file has one journal, also under the names of its links
	}
	c.Journal, c.defaultJournal = file+".journal", true
}

// repeatable reports whether the same command reads the same lines again: the input is not a stream.
func (c *runCommand) repeatable() bool {
	if c.File == "-" {
		return false
	}
	info, err := os.Stat(c.File)
	return err != nil || info.Mode().IsRegular() || info.IsDir() // opening it reports what is wrong
}

// openError adds to an error of filerun.Open how to name another journal.
func (c *runCommand) openError(err error) error {
	var foreign *journal.ForeignError
	isForeign, path := errors.As(err, &foreign), (*fs.PathError)(nil)
	switch {
	case isForeign && c.defaultJournal:
		return usageErrorf("without a Redis, run keeps a journal beside the input: %v\nName it with --journal FILE.", err)
	case isForeign:
		return usageErrorf("--journal: %v", err)
	case c.defaultJournal && errors.As(err, &path) && path.Path == c.Journal:
		return fmt.Errorf("%w.\nWithout a Redis, run keeps a journal beside the input: name a file for it with --journal FILE, or set redis.addrs", err)
	}
	return err
}

// config returns the configuration of the engine.
func (c *runCommand) config(p *program, cfg configs.Config, in *input) filerun.Config {
	run := filerun.Config{
		Settings: cfg, SettingsName: p.configName(), Log: p.logger(),
		Input: in, InputName: in.name,
		Results: p.stderr.WriterFor(p.stdout), Messages: p.stderr, Quiet: c.Quiet,
		Sandbox: c.Sandbox, Journal: c.Journal, Images: c.Images,
	}
	if c.Quiet {
		return run
	}
	total := 0 // lines of the input; 0: unknown
	if p.stderr.Terminal() {
		total = in.countLines()
	}
	run.OnProgress = func(now filerun.Progress) { p.stderr.Status(progressText(now, total)) }
	run.OnStall = func(s filerun.Stall) { p.notef("%s", stallText(s)) }
	return run
}

// validate returns a usage error for combinations that cannot work or could send tasks twice.
func (c *runCommand) validate(p *program, cfg configs.Config) error {
	switch {
	case c.Journal == "-":
		return usageErrorf("--journal -: the next run reads the journal again; name a file, such as tasks.journal")
	case c.Journal != "" && p.stdoutIs(c.Journal):
		return usageErrorf("--journal: standard output goes to %s as well; use a separate file for the journal", c.Journal)
	case c.Sandbox:
		return nil
	case !cfg.Redis.Configured() && c.Journal == "":
		what := c.File + " is not a regular file"
		if c.File == "-" {
			what = "the tasks come from standard input"
		}
		return usageErrorf("run sends to WeChat and requires a record of what was sent, but %s, so a journal cannot be kept beside it.\nUse --journal FILE, set redis.addrs in %s (or $WXCOURIER_REDIS_ADDRS), or try the tasks with --sandbox, which sends no messages.", what, p.configName())
	case cfg.Redis.Configured() && c.Journal != "":
		return usageErrorf("--journal is for a run without a Redis, but redis.addrs is set (in %s or $WXCOURIER_REDIS_ADDRS): that Redis records what was sent, and the same command continues with it.\nLeave out --journal or redis.addrs.", p.configName())
	case len(cfg.Apps) == 0:
		return usageErrorf("no app is configured.\nAdd apps with their ids and secrets to %s (or set $WXCOURIER_APPS_<APPID>_SECRET), or try the file with --sandbox.", p.configName())
	}
	return nil
}

// stdoutIs reports whether standard output is the file at path.
func (p *program) stdoutIs(path string) bool {
	stdout, ok := p.stdout.(*os.File)
	if !ok {
		return false
	}
	a, errA := stdout.Stat()
	b, errB := os.Stat(path)
	return errA == nil && errB == nil && os.SameFile(a, b)
}

// announce prints what the journal holds, and that no messages are sent.
func (c *runCommand) announce(p *program, held filerun.JournalState) {
	if held.Torn > 0 {
		p.notef("%s: warning: the last line is incomplete; its %d bytes are dropped, which loses no record of a sent request", c.Journal, held.Torn)
	}
	if c.Quiet {
		return
	}
	if c.defaultJournal {
		p.notef("No Redis is configured: %s records what is sent, so that the same command continues this run.", c.Journal)
	}
	if held.Ended+held.Requests > 0 {
		p.notef("%s: %s with an outcome, %s without an answer", c.Journal, describe.Count(held.Ended, "task"), describe.Count(held.Requests, "request"))
	}
	if c.Sandbox {
		kept := "nothing is kept after exit"
		if c.Journal != "" {
			kept = "only the journal is kept after exit"
		}
		p.notef("Redis and WeChat run inside this process: no messages are sent, and %s.", kept)
	}
}

// progressText returns the status line. total is the number of lines, if it is known.
func progressText(now filerun.Progress, total int) string {
	text := summary.Number(now.Ended)
	if total > 0 {
		text += " of " + summary.Number(total)
	}
	text += " tasks"
	if now.HasRate {
		text += fmt.Sprintf(" · %.0f/s", now.Rate)
	}
	for _, outcome := range tasks.Outcomes() {
		if n := now.Outcomes[outcome]; n > 0 {
			text += fmt.Sprintf(" · %s %s", summary.Number(n), outcome)
		}
	}
	if now.Stopping {
		text = "finishing the tasks in flight … " + text
	}
	return text
}

// stallText says why no task has ended for a while.
func stallText(s filerun.Stall) string {
	reason := "waiting for process_at, for a retry or for a limit"
	if len(s.Held) > 0 {
		reason = "held: " + strings.Join(s.Held, "; ")
	}
	return fmt.Sprintf("no result for %s; %s unfinished; %s", s.For.Round(time.Second), describe.Count(s.Unfinished, "task"), reason)
}

// summaryText returns the line below the table of outcomes.
func summaryText(r *filerun.Report) string {
	ended := r.Results.Total()
	text := fmt.Sprintf("%s in %s (%.0f/s)", describe.Count(ended, "task"), describe.Rounded(r.Took), float64(ended-r.Lines.Ended)/max(r.Took.Seconds(), 0.001))
	for _, count := range []struct {
		n    int
		what string
	}{
		{r.Lines.Bad, "skipped as invalid"},
		{r.Lines.Duplicates, "already enqueued by an earlier line"},
		{r.Lines.Already, "already enqueued before this run"},
		{r.Lines.Differing, "of those with a different body"},
		{r.Lines.Ended, "already ended according to the journal"},
	} {
		if count.n > 0 {
			text += fmt.Sprintf("; %s %s", describe.Count(count.n, "line"), count.what)
		}
	}
	return text
}

// problems returns an error that names what keeps the run from success, if anything does.
func (c *runCommand) problems(r *filerun.Report) error {
	failed, unknown := r.Results.Count(tasks.OutcomeFailed), r.Results.Count(tasks.OutcomeUnknown)
	notAccepted := 0
	if c.Strict {
		notAccepted = r.Results.Total() - r.Results.Count(tasks.OutcomeAccepted) - failed - unknown
	}
	var problems []string
	if r.Interrupted {
		problems = append(problems, "interrupted")
	}
	for _, count := range []struct {
		n          int
		what, text string
	}{
		{r.Lines.Bad, "line", "could not be sent"},
		{failed, "task", "failed"},
		{unknown, "task", "may or may not have reached WeChat"},
		{r.Lost, "task", "lost from Redis"},
		{r.ImageErrors, "image", "not written"},
		{r.Unjournaled, "result", "not in the journal: keep standard output, since the same command sends these tasks again where that is harmless and reports the others as unknown"},
		{notAccepted, "task", "not accepted (--strict)"},
		{r.Unfinished, "task", "without an outcome, " + c.unfinishedText()},
	} {
		if count.n > 0 {
			problems = append(problems, describe.Count(count.n, count.what)+" "+count.text)
		}
	}
	if len(problems) == 0 {
		return nil
	}
	return errors.New(strings.Join(problems, "; "))
}

// unfinishedText describes what happens to tasks that have no outcome yet.
func (c *runCommand) unfinishedText() string {
	switch {
	case c.Journal != "":
		return "not sent, or waiting for a retry: repeat the command to continue"
	case c.Sandbox:
		return "lost with the Redis inside this process"
	}
	return "still in Redis: workers deliver them, or repeat the command"
}
