package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/wxcourier/wxcourier/configs"
	"github.com/wxcourier/wxcourier/internal/app"
	"github.com/wxcourier/wxcourier/internal/calendar"
	"github.com/wxcourier/wxcourier/internal/campaign"
	"github.com/wxcourier/wxcourier/internal/campaign/table"
	"github.com/wxcourier/wxcourier/internal/describe"
	"github.com/wxcourier/wxcourier/tasks"
)

type sendCommand struct {
	App      string  `placeholder:"ID" help:"The app that sends. Default: app in the template, or the only configured one."`
	Type     string  `placeholder:"TYPE" help:"The task type, such as send:subscribe. Default: type in the template."`
	Batch    string  `placeholder:"NAME" help:"A name for the campaign: each person gets at most one message of it. Default: batch in the template."`
	Table    string  `required:"" placeholder:"FILE" help:"CSV, TSV or .xlsx, with the names of the columns in the first row."`
	Template string  `required:"" placeholder:"FILE" help:"The message in YAML: an envelope with {{column}} in its strings."`
	DryRun   bool    `help:"Check the table and estimate the end; send nothing."`
	Yes      bool    `short:"y" help:"Do not ask before sending."`
	Strict   bool    `help:"Send nothing if any row is at fault."`
	Rate     float64 `placeholder:"N" help:"Send at most N messages a second, such as 50 or 0.5. Default: what the app's limits allow."`
	At       string  `placeholder:"TIME" help:"Send from this time on: 2026-12-01T08:00:00+08:00, or \"2026-12-01 08:00\" in China (Asia/Shanghai)."`
	Report   string  `placeholder:"FILE" help:"Write a CSV with what became of each row. It contains openids."`
	Changed  bool    `name:"changed-table" help:"Continue a batch with another table or template than it began with: rows that were enqueued are not sent again."`
	NoWait   bool    `help:"Return when all rows are enqueued."`
	JSON     bool    `help:"Print a summary as JSON at the end."`
}

func (sendCommand) Help() string {
	return `Sends one message to each row of a table. It checks every row first and shows the rows at fault by kind, the first message and an estimate of the end. Then it asks, enqueues the rows, and waits until each has an outcome; workers deliver them. It requires a configured Redis.

Rows at fault are left out and listed in the report. A row whose receiver has occurred before is one of them.

Repeating the command continues: each person gets at most one message of a batch, also after an interruption or when the table has changed since. A changed table or template needs --changed-table. Redis keeps for 90 days who got a message of the batch.

The template is an envelope in YAML. {{column}} stands for the cell of that column, {{column|cut:20}} for its first 20 characters, {{column|number}} for a number, {{column|default:text}} for the text where the cell is empty, and {{column|url}} for the cell as a part of a link. An empty cell without a default is a fault.

--rate gives each row a time of its own (process_at), in whole seconds, so that the pace is kept if this command is interrupted. The limits of the app apply in any case.

The exit status is 0 when every row was sent and has an outcome; 1 when rows were at fault, failed or unknown; 2 when nothing was tried. See docs/campaign.md.

Examples:
    wxcourier send --app wx0123456789abcdef --type send:subscribe --batch spring --table people.csv --template message.yaml --dry-run
    wxcourier send --app wx0123456789abcdef --type send:subscribe --batch spring --table people.xlsx --template message.yaml --report report.csv
    wxcourier send --batch spring --table people.csv --template message.yaml --at "2026-12-01 08:00" --rate 50 --yes`
}

// sendRun is one run of the command.
type sendRun struct {
	*sendCommand
	p       *program
	parts   *app.Parts
	sender  *campaign.Sender
	text    io.Writer // for people
	summary sendSummary
}

// Run checks the table, and sends it.
func (c *sendCommand) Run(p *program) error {
	cfg, err := p.needRedis("send")
	if err != nil {
		return err
	}
	if !c.Yes && !c.DryRun && !isTerminal(p.stdin) {
		return usageErrorf("send asks before it sends, and standard input is not a terminal: add --yes, or --dry-run to send nothing")
	}
	plan, err := c.plan(cfg)
	if err != nil {
		return err
	}
	parts, err := app.Open(p.ctx, cfg, p.logger(), nil)
	if err != nil {
		return err
	}
	defer parts.Close()
	if !app.Known(cfg.Apps, plan.App) {
		p.notef("note: %s", unknownAppText(p.ctx, parts.Redis, plan.App))
	}
	if warning := parts.Tasks.WarningOf(plan.App, plan.Type); warning != "" {
		p.notef("warning: %s", warning)
	}
	r := &sendRun{sendCommand: c, p: p, parts: parts, sender: campaign.NewSender(parts.Redis), text: p.stdout}
	defer r.sender.Close()
	if c.JSON {
		r.text = p.stderr
	}
	return r.run(plan)
}

// isTerminal reports whether a reader is a terminal.
func isTerminal(r io.Reader) bool {
	f, ok := r.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// plan reads the table and the template. Their mistakes are usage errors.
func (c *sendCommand) plan(cfg configs.Config) (campaign.Plan, error) {
	plan := campaign.Plan{App: c.App, Type: c.Type, Batch: c.Batch, Rate: c.Rate}
	if plan.App == "" && len(cfg.Apps) == 1 {
		plan.App = cfg.Apps[0].ID // unless the template names another one
	}
	if err := c.checkReport(); err != nil {
		return plan, err
	}
	text, err := readLimited(c.Template, 1<<20)
	if err != nil {
		return plan, fmt.Errorf("read the template: %w", err)
	}
	if plan.Template, err = campaign.ParseTemplate(text); err != nil {
		return plan, usageErrorf("%s: %s", c.Template, indented(err))
	}
	if c.App == "" && plan.Template.App != "" {
		plan.App = ""
	}
	// In memory: what is checked is what is sent, also when a spreadsheet saves the file meanwhile.
	content, err := readLimited(c.Table, table.MaxSize)
	if err != nil {
		return plan, fmt.Errorf("read the table: %w", err)
	}
	plan.Table, err = table.Open(bytes.NewReader(content), int64(len(content)), filepath.Base(c.Table))
	if err != nil {
		return plan, usageErrorf("%s: %v", c.Table, err)
	}
	if plan.At, err = atTime(c.At); err != nil {
		return plan, err
	}
	if plan, err = plan.Complete(); err != nil {
		return plan, usageErrorf("%s", indented(err))
	}
	return plan, nil
}

// indented puts each line of an error but a single one on its own line.
func indented(err error) string {
	text := err.Error()
	if strings.Contains(text, "\n") {
		return "\n  " + strings.ReplaceAll(text, "\n", "\n  ")
	}
	return text
}

// checkReport refuses a report that would replace an input.
func (c *sendCommand) checkReport() error {
	if c.Report == "" {
		return nil
	}
	report, err := os.Stat(c.Report)
	if err != nil {
		return nil //nolint:nilerr // it does not exist yet, or writing it reports what is wrong
	}
	if report.IsDir() {
		return usageErrorf("--report: %s is a folder; name a file", c.Report)
	}
	for _, name := range []string{c.Table, c.Template} {
		if input, err := os.Stat(name); err == nil && os.SameFile(report, input) {
			return usageErrorf("--report: %s is an input; name another file", c.Report)
		}
	}
	return nil
}

// readLimited reads a file of at most some bytes.
func readLimited(name string, most int64) ([]byte, error) {
	f, err := os.Open(name) //nolint:gosec // the user names the file
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	content, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(content)) > most {
		err = fmt.Errorf("%s has more than %d MB", name, most>>20)
	}
	return content, err
}

// atTime parses --at; "" is the zero time.
func atTime(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return at, nil
	}
	for _, layout := range []string{"2006-01-02 15:04", "2006-01-02T15:04", time.DateTime} {
		if at, err := time.ParseInLocation(layout, text, calendar.Shanghai()); err == nil {
			return at, nil
		}
	}
	return time.Time{}, usageErrorf(`--at: %q is not a time such as "2026-12-01 08:00" (Asia/Shanghai) or 2026-12-01T08:00:00+08:00`, text)
}

// run checks, asks, sends, waits and reports.
func (r *sendRun) run(plan campaign.Plan) error {
	checked, err := r.check(plan)
	if err != nil {
		return r.p.unlessInterrupted(err)
	}
	sending, err := r.decide(checked)
	if err == nil && sending {
		err = r.send(checked)
	}
	reported := r.report(checked)
	var printed error
	if r.JSON {
		printed = r.p.printJSON(r.summary)
	}
	return errors.Join(err, reported, printed)
}

// decide reports whether the rows shall be sent.
func (r *sendRun) decide(c *campaign.Checked) (bool, error) {
	state := r.summary.state
	switch err := state.Err(r.Changed); {
	case errors.Is(err, campaign.ErrForeign):
		return false, usageErrorf("--batch: %s has tasks that send did not make from such a table: choose another name", c.Plan.Batch)
	case errors.Is(err, campaign.ErrCanceled):
		return false, usageErrorf("--batch: %s was canceled, and its remaining rows are not sent: choose another name", c.Plan.Batch)
	case errors.Is(err, campaign.ErrChanged):
		return false, usageErrorf("%s is not the one with which batch %s began: add --changed-table to send the %s that remain. Those that were enqueued are not sent again",
			changedText(state), c.Plan.Batch, describe.Count(state.Remaining, "row"))
	}
	if !c.Plan.At.IsZero() && c.Plan.At.Before(time.Now().Add(-time.Minute)) && state.Started.IsZero() {
		return false, usageErrorf("--at: %s has passed; leave it out to send at once", shanghai(c.Plan.At))
	}
	faults := faultsError(c)
	switch {
	case c.Valid == 0:
		return false, errors.Join(errors.New("no row can be sent"), faults)
	case r.Strict && faults != nil:
		return false, fmt.Errorf("%w: nothing was sent (--strict)", faults)
	case r.DryRun:
		return false, faults
	case r.Yes || state.Remaining == 0:
		return true, nil
	}
	if yes, err := confirm(r.p, confirmText(c, state)); err != nil || !yes {
		return false, errors.Join(err, errors.New("nothing was sent"))
	}
	return true, nil
}

func faultsError(c *campaign.Checked) error {
	if c.Faulty() == 0 {
		return nil
	}
	return errors.New(describe.Count(c.Faulty(), "row") + " at fault")
}

// confirm asks a question on the terminal.
func confirm(p *program, question string) (bool, error) {
	_, _ = fmt.Fprintf(p.stderr, "%s [y/N] ", question)
	answer, err := bufio.NewReader(interruptible(p.ctx, p.stdin)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return false, p.unlessInterrupted(err)
	}
	if answer = strings.ToLower(strings.TrimSpace(answer)); answer == "" && err != nil {
		_, _ = fmt.Fprintln(p.stderr) // the end of the input is on the line of the question
	}
	return answer == "y" || answer == "yes", nil
}

// report writes the report, if one is asked for. It replaces the file when it is complete.
func (r *sendRun) report(c *campaign.Checked) error {
	if r.Report == "" {
		if c.Faulty() > 0 {
			r.p.notef("note: --report FILE lists the rows at fault")
		}
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.p.ctx), 2*time.Minute)
	defer cancel()
	f, err := os.CreateTemp(filepath.Dir(r.Report), filepath.Base(r.Report)+".*") // only its owner can read it
	if err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	defer func() { _ = os.Remove(f.Name()) }()
	out := bufio.NewWriter(f)
	err = errors.Join(r.sender.WriteReport(ctx, out, c), out.Flush(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), r.Report)
	}
	if err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	r.p.notef("%s: what became of %s", r.Report, describe.Count(c.Rows, "row"))
	return nil
}

// outcomesError returns an error for outcomes that an operator must look at.
func outcomesError(progress campaign.Progress) error {
	var problems []string
	if n := progress.Outcomes[tasks.OutcomeFailed]; n > 0 {
		problems = append(problems, describe.Count(int(n), "task")+" failed")
	}
	if n := progress.Outcomes[tasks.OutcomeUnknown]; n > 0 {
		problems = append(problems, describe.Count(int(n), "task")+" may or may not have reached WeChat")
	}
	if len(problems) == 0 {
		return nil
	}
	return errors.New(strings.Join(problems, "; "))
}
