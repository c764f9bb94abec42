package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/wxcourier/wxcourier/configs"
	"github.com/wxcourier/wxcourier/internal/app"
	"github.com/wxcourier/wxcourier/internal/describe"
	"github.com/wxcourier/wxcourier/internal/summary"
	"github.com/wxcourier/wxcourier/tasks"
)

type redriveCommand struct {
	Outcome []string `required:"" placeholder:"NAME" help:"Redrive tasks with these outcomes: unknown, failed, rejected. With unknown you accept that a person may get a message twice."`
	ErrCode []int    `name:"errcode" placeholder:"N" help:"Only these error codes of WeChat."`
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

The tasks are found in the results, as far back as results.stream_max_len reaches; --batch and --id do not need the results. Tasks whose not_after has passed are skipped.

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
	if c.Batch != "" && !tasks.ValidBatch(c.Batch) {
		return filter, usageErrorf("--batch: %q is not a valid batch name", c.Batch)
	}
	if c.Limit < 0 {
		return filter, usageErrorf("--limit: %d is negative", c.Limit)
	}
	filter.ErrCodes, filter.Batch, filter.DryRun = c.ErrCode, c.Batch, c.DryRun
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
	r := &redriveRun{program: p, inspector: tasks.NewInspector(rdb), filter: filter, left: -1, counts: redriveCounts{DryRun: c.DryRun}}
	if c.Limit > 0 {
		r.left = c.Limit
	}
	for _, app := range apps {
		if err = r.app(app, c.ID); err != nil {
			break
		}
	}
	p.stderr.Status("")
	var shown error
	if c.JSON {
		shown = json.NewEncoder(p.stdout).Encode(r.counts)
	} else {
		_, shown = fmt.Fprintln(p.stdout, r.counts.text())
	}
	return errors.Join(p.unlessInterrupted(err), shown, r.counts.busyError())
}

// redriveCounts counts tasks by what redrive did with them.
type redriveCounts struct {
	Redriven  int  `json:"redriven"`   // waiting again
	Resumed   int  `json:"resumed"`    // waiting again: completed for an interrupted redrive
	Unmatched int  `json:"unmatched"`  // do not match the filter, or no longer
	Expired   int  `json:"expired"`    // not_after has passed: skipped
	NoPayload int  `json:"no_payload"` // payload no longer kept: skipped
	Busy      int  `json:"busy"`       // still owned by an earlier run: repeat the command
	DryRun    bool `json:"dry_run"`
}

func (n redriveCounts) text() string {
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

func (n redriveCounts) busyError() error {
	if n.Busy == 0 {
		return nil
	}
	return errors.New(describe.Count(n.Busy, "task") + " could not be redriven yet; repeat the command in a minute")
}

// redriveRun is one run of redrive.
type redriveRun struct {
	program   *program
	inspector *tasks.Inspector
	filter    tasks.Redrive
	left      int // tasks that may still be redriven; negative: no limit
	counts    redriveCounts
}

// Tasks are redriven in batches of redriveBatchSize; the progress line is updated after each.
// redriveParallelism of them are processed concurrently.
const (
	redriveBatchSize   = 512
	redriveParallelism = 16
)

// app redrives tasks of an app: the named ones, or else those that match the filter.
func (r *redriveRun) app(app string, named []string) error {
	ctx := r.program.ctx
	resumed, busy, err := r.inspector.FinishRedrives(ctx, app, r.filter.DryRun)
	r.counts.Resumed += resumed
	r.counts.Busy += len(busy)
	if err != nil {
		return err
	}
	ids := idReader{program: r.program}
	source := r.inspector.RedriveCandidates(ctx, app, r.filter)
	if len(named) > 0 {
		source = withoutErrors(ids.all(named))
	}
	next, stop := iter.Pull2(source)
	defer stop()
	for more := true; more && r.left != 0; {
		var batch []string
		for more && len(batch) < redriveBatchSize && len(batch) != r.left {
			id, err, ok := next()
			if err != nil {
				return err
			}
			if more = ok; ok && !slices.Contains(busy, id) {
				batch = append(batch, id)
			}
		}
		if err := r.redriveBatch(app, batch); err != nil {
			return err
		}
	}
	return ids.err()
}

func withoutErrors(ids iter.Seq[string]) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		ids(func(id string) bool { return yield(id, nil) })
	}
}

// redriveBatch redrives tasks concurrently and returns the first error.
func (r *redriveRun) redriveBatch(app string, ids []string) error {
	var (
		mu    sync.Mutex
		first error
		all   sync.WaitGroup
	)
	failed := func() bool { mu.Lock(); defer mu.Unlock(); return first != nil }
	next := make(chan string)
	for range min(redriveParallelism, len(ids)) {
		all.Go(func() {
			for id := range next {
				if failed() {
					continue
				}
				done, err := r.inspector.Redrive(r.program.ctx, app, id, r.filter)
				mu.Lock()
				if r.count(done); first == nil {
					first = err
				}
				mu.Unlock()
			}
		})
	}
	for _, id := range ids {
		next <- id
	}
	close(next)
	all.Wait()
	r.program.stderr.Status(r.counts.text())
	return first
}

func (r *redriveRun) count(done tasks.RedriveResult) {
	switch done {
	case tasks.RedriveDone:
		r.counts.Redriven++
		if r.left > 0 {
			r.left--
		}
	case tasks.RedriveUnmatched:
		r.counts.Unmatched++
	case tasks.RedriveExpired:
		r.counts.Expired++
	case tasks.RedriveNoPayload:
		r.counts.NoPayload++
	case tasks.RedriveBusy:
		r.counts.Busy++
	}
}
