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
	"github.com/wxcourier/wxcourier/internal/summary"
	"github.com/wxcourier/wxcourier/tasks"
)

type redriveCommand struct {
	Outcome []string `required:"" placeholder:"NAME" help:"Put back what ended so: unknown, failed, rejected. With unknown you accept that a person may get a message twice."`
	ErrCode []int    `name:"errcode" placeholder:"N" help:"Only these codes of WeChat's."`
	App     []string `placeholder:"ID" help:"Only these apps. Default: all that are configured."`
	Batch   string   `placeholder:"NAME" help:"Only this batch."`
	ID      []string `name:"id" placeholder:"ID" help:"Only these tasks of one app; - reads ids from standard input, one a line."`
	Since   string   `placeholder:"TIME" help:"Only what ended since then: a duration such as 90m, or a time such as 2026-12-01T08:00:00+08:00."`
	Limit   int      `placeholder:"N" help:"Put no more than N tasks back."`
	DryRun  bool     `help:"Only say how many there are."`
	JSON    bool     `help:"As JSON."`
}

func (redriveCommand) Help() string {
	return `Puts ended tasks back under the same ids, once what made them fail has been mended. They are sent as they were enqueued, in a new generation; the old outcome is kept in the task's history. It may be repeated: what was put back has no outcome that could be taken back again. Each run first finishes what an earlier one left half done.

Results tell which tasks there are, as far as results.stream_max_len reaches back; a batch (--batch) and ids (--id) do without. Tasks whose not_after has passed are left alone.

--outcome unknown: WeChat may have taken the message, and nobody knows. To redrive it is your decision that a second one is better than none. Only a template message is safe, and for ten minutes: WeChat drops what comes again with the same client_msg_id.

Tasks of a batch that was canceled are put back and sent, too: the later decision counts.

Examples:
    wxcourier redrive --outcome rejected --errcode 40037 --since 2h --dry-run
    wxcourier redrive --outcome failed,unknown --batch spring-sale
    wxcourier redrive --outcome unknown --app wx0123456789abcdef --id order-42-shipped`
}

// notRedrivable is why an outcome stands.
func notRedrivable(outcome tasks.Outcome) string {
	switch outcome {
	case tasks.OutcomeAccepted:
		return "WeChat took it; a second message needs a task of its own"
	case tasks.OutcomeRefused:
		return "the person's choice stands; when it changes, enqueue a new task"
	case tasks.OutcomeExpired:
		return "its not_after has passed; enqueue a new task"
	case tasks.OutcomeCanceled:
		return "it was taken back; enqueue a new task"
	case tasks.OutcomeRejected, tasks.OutcomeFailed, tasks.OutcomeUnknown:
	}
	return ""
}

// filter reads the command line.
func (c *redriveCommand) filter(now time.Time) (want tasks.Redrive, err error) {
	for _, name := range c.Outcome {
		outcome := tasks.Outcome(name)
		if !slices.Contains(tasks.Outcomes(), outcome) {
			return want, usageErrorf("--outcome: %q is none of %v", name, tasks.Redrivable())
		}
		if !slices.Contains(tasks.Redrivable(), outcome) {
			return want, usageErrorf("--outcome: %s cannot be redriven: %s. %v can", name, notRedrivable(outcome), tasks.Redrivable())
		}
		want.Outcomes = append(want.Outcomes, outcome)
	}
	if c.Batch != "" && !tasks.ValidBatch(c.Batch) {
		return want, usageErrorf("--batch: %q is not a name of a batch", c.Batch)
	}
	if c.Limit < 0 {
		return want, usageErrorf("--limit: %d is no number of tasks", c.Limit)
	}
	want.ErrCodes, want.Batch, want.DryRun = c.ErrCode, c.Batch, c.DryRun
	want.Since, err = sinceTime(c.Since, now)
	return want, errors.Join(err, validApps(c.App), validIDs(c.ID))
}

// apps are those that the command is about.
func (c *redriveCommand) apps(p *program) ([]string, error) {
	cfg, err := p.needRedis("redrive")
	if err != nil {
		return nil, err
	}
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

// Run puts tasks back.
func (c *redriveCommand) Run(p *program) error {
	want, err := c.filter(time.Now())
	if err != nil {
		return err
	}
	apps, err := c.apps(p)
	if err != nil {
		return err
	}
	client, closeClient, err := p.taskClient("redrive")
	if err != nil {
		return err
	}
	defer closeClient()
	r := &redriveRun{program: p, client: client, filter: want, left: -1, counts: redriveCounts{DryRun: c.DryRun}}
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

// redriveCounts is what a redrive met.
type redriveCounts struct {
	Redriven  int  `json:"redriven"`   // wait again
	Resumed   int  `json:"resumed"`    // wait again: an earlier redrive was broken off over them
	Unmatched int  `json:"unmatched"`  // not, or no longer, what was asked for
	Expired   int  `json:"expired"`    // past their not_after: left alone
	NoPayload int  `json:"no_payload"` // it is not known what they were: left alone
	Busy      int  `json:"busy"`       // a run that had them has not ended: to be repeated
	DryRun    bool `json:"dry_run"`
}

func (n redriveCounts) text() string {
	done := " put back"
	if n.DryRun {
		done = " would be put back"
	}
	parts := []string{plural(n.Redriven, "task") + done}
	for _, part := range []struct {
		n    int
		text string
	}{
		{n.Resumed, "of an earlier redrive" + done},
		{n.Unmatched, "did not match, or no longer"},
		{n.Expired, "left alone, past not_after"},
		{n.NoPayload, "left alone, their payload is not kept"},
		{n.Busy, "still in the hands of an earlier run"},
	} {
		if part.n > 0 {
			parts = append(parts, summary.Number(part.n)+" "+part.text)
		}
	}
	return strings.Join(parts, ", ")
}

func (n redriveCounts) busyError() error {
	if n.Busy == 0 {
		return nil
	}
	return errors.New(plural(n.Busy, "task") + " could not be handed over yet; repeat the command in a minute")
}

// redriveRun is one run of redrive.
type redriveRun struct {
	program *program
	client  *tasks.Client
	filter  tasks.Redrive
	left    int // tasks that may still be put back; negative for any number
	counts  redriveCounts
}

// redriveBatchSize is how many tasks are taken up before the person at the terminal hears of
// it, and atOnce how many of them are under way together.
const (
	redriveBatchSize   = 512
	redriveParallelism = 16
)

// app puts the tasks of an app back: those that are named, or else those that are found.
func (r *redriveRun) app(app string, named []string) error {
	ctx := r.program.ctx
	resumed, busy, err := r.client.FinishRedrives(ctx, app, r.filter.DryRun)
	r.counts.Resumed += resumed
	r.counts.Busy += len(busy)
	if err != nil {
		return err
	}
	ids := idReader{program: r.program}
	source := r.client.RedriveCandidates(ctx, app, r.filter)
	if len(named) > 0 {
		source = withoutErrors(ids.all(named))
	}
	next, stop := iter.Pull2(source)
	defer stop()
	for more := true; more && r.left != 0; {
		var round []string
		for more && len(round) < redriveBatchSize && len(round) != r.left {
			id, err, ok := next()
			if err != nil {
				return err
			}
			if more = ok; ok && !slices.Contains(busy, id) {
				round = append(round, id)
			}
		}
		if err := r.redriveBatch(app, round); err != nil {
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

// redriveBatch redrives some tasks, several at once.
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
				done, err := r.client.Redrive(r.program.ctx, app, id, r.filter)
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

func (r *redriveRun) count(done tasks.Redriven) {
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
