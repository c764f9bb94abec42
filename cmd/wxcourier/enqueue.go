package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/wxcourier/wxcourier/internal/app"
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
	JSON bool   `help:"Print a receipt for each task, as JSON Lines."`
}

func (enqueueCommand) Help() string {
	return `Enqueues the tasks of a file and returns; workers deliver them. It requires a configured Redis. Enqueuing an id again has no effect while its task waits or its result is kept. A line without an id gets one derived from its text, so that an interrupted command can be repeated.

An invalid line, or one whose id belongs to a task of another type, is reported on standard error and skipped; the exit status is then 1. A line whose id is already enqueued with another body is also reported and not sent; with --json its receipt has "differs".

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
	ctx, cancel := context.WithCancelCause(p.ctx)
	defer cancel(nil)
	out := printable.NewJSONLines(p.stdout)
	reporter := ingest.Reporter{Out: p.stderr, Input: in.name}
	counts, err := ingest.Enqueue(ctx, taskfile.New(in), ingest.Options{
		Client: tasks.NewClient(rdb),
		Admit: func(_ context.Context, id string) error {
			if !app.Known(cfg.Apps, id) {
				p.notef("note: app %s is not configured here; its tasks wait for a worker that has its credentials", id)
			}
			return nil
		},
		Known:     ledger.New(rdb, ledger.Policy{}).Exist,
		OnBadLine: reporter.BadLine,
		OnEnqueued: func(line int, r tasks.Receipt) {
			reporter.Enqueued(line, r)
			if c.JSON {
				if err := out.Write(r); err != nil {
					cancel(fmt.Errorf("write the receipts: %w", err))
				}
			}
		},
		OnDuplicate: reporter.Duplicate,
	})
	reporter.Close()
	if flushed := out.Flush(); flushed != nil && context.Cause(ctx) == nil {
		err = errors.Join(err, fmt.Errorf("write the receipts: %w", flushed))
	}
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
