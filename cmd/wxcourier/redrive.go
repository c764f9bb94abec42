package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/wxcourier/wxcourier/configs"
	"github.com/wxcourier/wxcourier/internal/app"
	"github.com/wxcourier/wxcourier/internal/audit"
	"github.com/wxcourier/wxcourier/internal/describe"
	"github.com/wxcourier/wxcourier/internal/redrive"
	"github.com/wxcourier/wxcourier/internal/summary"
	"github.com/wxcourier/wxcourier/tasks"
)

type redriveCommand struct {
	Outcome []string `required:"" placeholder:"NAME" help:"Redrive tasks with these outcomes: unknown, failed, rejected. With unknown you accept that a person may get a message twice."`
	ErrCode []int    `name:"errcode" placeholder:"N" help:"Only these error codes of WeChat."`
	Type    []string `placeholder:"TYPE" help:"Only these task types."`
	App     []string `placeholder:"ID" help:"Only these apps. Default: all configured apps."`
	Batch   string   `placeholder:"NAME" help:"Only this batch."`
	ID      []string `name:"id" placeholder:"ID" help:"Only these tasks of one app; - reads ids from standard input, one per line."`
	Since   string   `placeholder:"TIME" help:"Only tasks that ended since then: a duration such as 90m, or a time such as 2026-12-01T08:00:00+08:00."`
	Limit   int      `placeholder:"N" help:"Redrive at most N tasks."`
	DryRun  bool     `help:"Only print the counts; change nothing."`
	JSON    bool     `help:"Print the counts as JSON."`
}

func (redriveCommand) Help() string {
	return `Enqueues ended tasks again under the same ids, after the cause of their failure was fixed. The bodies are sent unchanged, in a new generation; the old outcome is kept in the task's history. Repeating the command is safe: a task that waits again has no outcome and does not match. Each run first completes the redrives that an interrupted run left unfinished.

The tasks are found in the results, which are kept for results.retention; --batch and --id do not need the results. If results.stream_max_len has cut the results earlier, a line on standard error says to which time they go back; the exit status is then 1 if --since asks for an earlier time. Tasks whose not_after has passed are skipped.

--outcome unknown: WeChat may or may not have accepted the message. Redriving it means that a duplicate is better than no message. Only template messages are safe, for ten minutes: WeChat drops a repetition with the same client_msg_id.

Tasks of a canceled batch are redriven and sent as well: the later command wins.

Examples:
    wxcourier redrive --outcome rejected --errcode 40037 --since 2h --dry-run
    wxcourier redrive --outcome failed,unknown --batch spring-sale
    wxcourier redrive --outcome unknown --app wx0123456789abcdef --id order-42-shipped`
}

// notRedrivable returns why tasks with this outcome cannot be redriven; "" when they can.
func notRedrivable(outcome tasks.Outcome) string {
	switch outcome {
	case tasks.OutcomeAccepted:
		return "WeChat accepted it; for a second message enqueue a new task"
	case tasks.OutcomeRefused:
		return "the person's choice or state prevents it; when that changes, enqueue a new task"
	case tasks.OutcomeExpired:
		return "its not_after has passed; enqueue a new task"
	case tasks.OutcomeCanceled:
		return "it was canceled; enqueue a new task"
	case tasks.OutcomeRejected, tasks.OutcomeFailed, tasks.OutcomeUnknown:
	}
	return ""
}

// filter validates the flags and returns them as a filter.
func (c *redriveCommand) filter(now time.Time) (filter tasks.Redrive, err error) {
	for _, name := range c.Outcome {
		outcome := tasks.Outcome(name)
		if !slices.Contains(tasks.Outcomes(), outcome) {
			return filter, usageErrorf("--outcome: %q is not one of %v", name, tasks.Redrivable())
		}
		if !slices.Contains(tasks.Redrivable(), outcome) {
			return filter, usageErrorf("--outcome: %s cannot be redriven: %s. %v can", name, notRedrivable(outcome), tasks.Redrivable())
		}
		filter.Outcomes = append(filter.Outcomes, outcome)
	}
	for _, typ := range c.Type {
		if _, known := tasks.Lookup(typ); !known {
			return filter, usageErrorf("--type: there is no task type %q; %s", typ, typeHint(typ))
		}
	}
	if c.Batch != "" && !tasks.ValidBatch(c.Batch) {
		return filter, usageErrorf("--batch: %q is not a valid batch name", c.Batch)
	}
	if c.Limit < 0 {
		return filter, usageErrorf("--limit: %d is negative", c.Limit)
	}
	filter.Types, filter.ErrCodes, filter.Batch, filter.DryRun = c.Type, c.ErrCode, c.Batch, c.DryRun
	filter.Since, err = sinceTime(c.Since, now)
	return filter, errors.Join(err, validApps(c.App), validIDs(c.ID))
}

// apps returns the apps of --app, or all configured ones.
func (c *redriveCommand) apps(cfg configs.Config) ([]string, error) {
	apps := c.App
	if len(apps) == 0 {
		apps = idsOf(cfg.Apps)
	}
	switch {
	case len(apps) == 0:
		return nil, usageErrorf("redrive: no app is configured; name one with --app")
	case len(apps) > 1 && len(c.ID) > 0:
		return nil, usageErrorf("--id: an id belongs to one app; name it with --app")
	}
	return apps, nil
}

func idsOf(apps []configs.App) (ids []string) {
	for _, app := range apps {
		ids = append(ids, app.ID)
	}
	return ids
}

// Run redrives tasks.
func (c *redriveCommand) Run(p *program) error {
	filter, err := c.filter(time.Now())
	if err != nil {
		return err
	}
	cfg, err := p.needRedis("redrive")
	if err != nil {
		return err
	}
	apps, err := c.apps(cfg)
	if err != nil {
		return err
	}
	rdb, err := app.OpenRedis(p.ctx, cfg.Redis)
	if err != nil {
		return err
	}
	defer func() { _ = rdb.Close() }()
	r := redrive.New(redrive.Config{
		Inspector: tasks.NewInspector(rdb), Filter: filter, Limit: c.Limit,
		OnProgress: func(n redrive.Counts) { p.stderr.Status(redriveText(n)) },
	})
	for _, app := range apps {
		before := r.Counts()
		err = c.redrive(p, r, app)
		if n := r.Counts().Since(before); n > 0 && !c.DryRun {
			p.audit(rdb, audit.Entry{Action: audit.Redrive, App: app, Target: c.Batch, Count: int64(n), Note: redrive.Note(filter, len(c.ID) > 0)})
		}
		if err != nil {
			break
		}
	}
	p.stderr.Status("")
	var shown error
	if c.JSON {
		shown = json.NewEncoder(p.stdout).Encode(r.Counts())
	} else {
		_, shown = fmt.Fprintln(p.stdout, redriveText(r.Counts()))
	}
	return errors.Join(p.unlessInterrupted(err), shown, busyError(r.Counts().Busy), c.reportCut(p, r.Counts().Cut))
}

// reportCut prints to which time the results of the apps go back, or returns it as an error if
// --since asked for more.
func (c *redriveCommand) reportCut(p *program, cut map[string]time.Time) error {
	var errs []error
	for _, app := range slices.Sorted(maps.Keys(cut)) {
		text := fmt.Sprintf("%v; redrive earlier tasks by --batch or --id", &tasks.ResultsCutError{App: app, Start: cut[app], ByLength: true})
		if c.Since == "" {
			p.notef("wxcourier: %s", text)
			continue
		}
		errs = append(errs, errors.New(text))
	}
	return errors.Join(errs...)
}

// redrive redrives the tasks of one app: those of --id, or those that match the filter.
func (c *redriveCommand) redrive(p *program, r *redrive.Redriver, app string) error {
	if len(c.ID) == 0 {
		return r.Redrive(p.ctx, app, nil)
	}
	ids := idReader{program: p}
	if err := r.Redrive(p.ctx, app, ids.all(c.ID)); err != nil {
		return err
	}
	return ids.err()
}

// redriveText summarizes the counts in one line.
func redriveText(n redrive.Counts) string {
	done := " redriven"
	if n.DryRun {
		done = " would be redriven"
	}
	parts := []string{describe.Count(n.Redriven, "task") + done}
	for _, count := range []struct {
		n    int
		text string
	}{
		{n.Resumed, "of an earlier redrive" + done},
		{n.Unmatched, "did not match"},
		{n.Expired, "skipped: not_after has passed"},
		{n.NoPayload, "skipped: payload no longer kept"},
		{n.Busy, "still owned by an earlier run"},
	} {
		if count.n > 0 {
			parts = append(parts, summary.Number(count.n)+" "+count.text)
		}
	}
	return strings.Join(parts, ", ")
}

func busyError(busy int) error {
	if busy == 0 {
		return nil
	}
	return errors.New(describe.Count(busy, "task") + " could not be redriven yet; repeat the command in a minute")
}
