package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/app"
	"github.com/wxcourier/wxcourier/internal/app/dev"
	"github.com/wxcourier/wxcourier/internal/describe"
	"github.com/wxcourier/wxcourier/internal/ingest"
	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/internal/printable"
	"github.com/wxcourier/wxcourier/internal/summary"
	"github.com/wxcourier/wxcourier/internal/taskfile"
	"github.com/wxcourier/wxcourier/tasks"
)

type enqueueCommand struct {
	File string `arg:"" help:"JSON Lines, one task per line; - is standard input."`
	JSON bool   `help:"Answer each line at once and in order, as JSON Lines."`
}

func (enqueueCommand) Help() string {
	return `Enqueues the tasks of a file and returns; workers deliver them. It requires a configured Redis. Enqueuing an id again has no effect while its task waits or its result is kept. A line without an id gets one derived from its text, so that an interrupted command can be repeated.

An invalid line, or one whose id belongs to a task of another type, is reported on standard error and skipped; the exit status is then 1. A line whose id is already enqueued with another body is also reported and not sent; with --json its receipt has "differs".

--json prints one answer for each line that is not blank, in the order of the lines: {"line":N,"app":…,"id":…,"queue":…}, with "already" for a known id, or {"line":N,"error":…} with "faults", each with its JSON path. If Redis does not answer, "repeat" is true: repeating the line is safe. An answer does not wait for further lines or for the end of the input, so that a program in any language can keep "wxcourier enqueue --json -" running beside it, write a line and read the answer. Such a program should give each task an id.

Examples:
    wxcourier enqueue tasks.jsonl -c wxcourier.yaml
    wxcourier enqueue --json - < tasks.jsonl`
}

// Run enqueues a file or standard input.
func (c *enqueueCommand) Run(p *program) error {
	cfg, err := p.needRedis("enqueue")
	if err != nil {
		return err
	}
	in, err := p.open(c.File)
	if err != nil {
		return err
	}
	defer in.close()
	rdb, err := app.OpenRedis(p.ctx, cfg.Redis)
	if err != nil {
		return err
	}
	defer func() { _ = rdb.Close() }()
	client := app.NewClient(cfg, rdb)
	defer client.Close()
	out := printable.NewJSONLines(p.stdout)
	ctx, cancel := context.WithCancelCause(p.ctx)
	defer cancel(nil)
	source, reporter := taskfile.New(in), ingest.Reporter{Out: p.stderr, Input: in.name}
	options := ingest.Options{
		Client: client,
		Admit: func(ctx context.Context, id string) error {
			if !app.Known(cfg.Apps, id) {
				p.notef("note: %s", unknownAppText(ctx, rdb, id))
			}
			return nil
		},
		Known:     ledger.New(rdb, ledger.Policy{}).Exist,
		OnBadLine: reporter.BadLine, OnEnqueued: reporter.Enqueued, OnDuplicate: reporter.Duplicate,
		OnBroken: in.interrupt,
	}
	if c.JSON {
		source.Unbounded = true
		options.OnAnswers = func(answers []ingest.Answer) {
			if err := writeAnswers(out, answers); err != nil {
				cancel(fmt.Errorf("write the receipts: %w", err))
			}
		}
	}
	counts, err := ingest.Enqueue(ctx, source, options)
	reporter.Close()
	if !c.JSON {
		_, _ = fmt.Fprintln(p.stdout, receiptText(counts))
	}
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, context.Canceled):
		err = errors.Join(err, errors.New("interrupted; repeat the command to enqueue the rest"))
	case cause != nil:
		err = errors.Join(err, cause)
	}
	if counts.Bad > 0 {
		err = errors.Join(err, errors.New(describe.Count(counts.Bad, "line")+" could not be enqueued"))
	}
	return err
}

// answerJSON is the JSON of an answer to a line that was not enqueued; that of an enqueued one is
// its receipt.
type answerJSON struct {
	Line   int         `json:"line"`
	App    string      `json:"app,omitempty"`
	ID     string      `json:"id,omitempty"`
	Error  string      `json:"error"`
	Faults []faultJSON `json:"faults,omitempty"`
	Repeat bool        `json:"repeat,omitempty"`
}

// faultJSON is the JSON of a tasks.FieldError.
type faultJSON struct {
	Path    string `json:"path,omitempty"`
	Problem string `json:"problem"`
}

// receiptJSON is a receipt with the number of its line.
type receiptJSON struct {
	Line int `json:"line"`
	tasks.Receipt
}

// writeAnswers writes answers, and flushes them, since the reader may wait for them.
func writeAnswers(out *printable.JSONLines, answers []ingest.Answer) error {
	for _, a := range answers {
		if a.Err == nil {
			_ = out.Write(receiptJSON{a.Line, a.Receipt}) // Flush returns the error
			continue
		}
		answer := answerJSON{Line: a.Line, App: a.App, ID: a.ID, Error: a.Err.Error(), Repeat: errors.Is(a.Err, ingest.ErrNotEnqueued)}
		var invalid *tasks.ValidationError
		if errors.As(a.Err, &invalid) {
			for _, fault := range invalid.Fields {
				answer.Faults = append(answer.Faults, faultJSON(fault))
			}
		}
		_ = out.Write(answer)
	}
	return out.Flush()
}

// unknownAppText says what becomes of the tasks of an app that is not configured.
func unknownAppText(ctx context.Context, rdb redis.UniversalClient, id string) string {
	served := dev.ServedApps(ctx, rdb)
	switch {
	case slices.Contains(served, id):
		return "app " + id + " is served by the wxcourier dev on this Redis: its tasks go to a stand-in for WeChat, and no messages are sent"
	case len(served) > 0:
		return "app " + id + " is not served by the wxcourier dev on this Redis, which serves " + strings.Join(served, ", ") + "; its tasks wait"
	}
	return "app " + id + " is not configured here; its tasks wait for a worker that has its credentials"
}

// receiptText summarizes the counts in one line.
func receiptText(c ingest.Counts) string {
	parts := []string{describe.Count(c.Enqueued, "task") + " enqueued"}
	if n := c.Already + c.Duplicates; n > 0 {
		parts = append(parts, describe.Count(n, "task")+" already enqueued")
	}
	if c.Differing > 0 {
		parts = append(parts, summary.Number(c.Differing)+" of those with a different body")
	}
	if c.Bad > 0 {
		parts = append(parts, describe.Count(c.Bad, "line")+" skipped as invalid")
	}
	return strings.Join(parts, ", ")
}
