package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/wxcourier/wxcourier/internal/app"
	"github.com/wxcourier/wxcourier/internal/images"
	"github.com/wxcourier/wxcourier/internal/printable"
	"github.com/wxcourier/wxcourier/internal/resultcsv"
	"github.com/wxcourier/wxcourier/tasks"
)

type resultsCommand struct {
	App     []string      `placeholder:"ID" help:"Only these apps. Default: all."`
	Type    []string      `placeholder:"TYPE" help:"Only these task types."`
	Batch   string        `placeholder:"NAME" help:"Only this batch."`
	Outcome []string      `placeholder:"NAME" help:"Only these outcomes: accepted, refused, rejected, expired, failed, unknown, canceled."`
	ErrCode []int         `name:"errcode" placeholder:"N" help:"Only these error codes of WeChat."`
	Receipt []string      `placeholder:"NAME" help:"Only messages with these receipts: delivered, blocked, failed; or none: those whose receipt has not come. With --follow the receipts as they come."`
	Since   string        `placeholder:"TIME" help:"Only results since then: a duration such as 90m, or a time such as 2026-12-01T08:00:00+08:00."`
	Follow  bool          `short:"f" help:"Continue with new results until interrupted."`
	JSON    bool          `xor:"format" help:"Print JSON Lines."`
	CSV     bool          `name:"csv" xor:"format" help:"Print CSV with a header."`
	Images  images.Folder `placeholder:"DIR" help:"Write the images of codes into DIR, as <app>-<id>.png or .jpg."`
}

func (resultsCommand) Help() string {
	return `Lists the results of ended tasks by app, oldest first. They are kept for results.retention. If results.stream_max_len has cut them earlier, a line on standard error says to which time they go back; the exit status is then 1 if --since asks for an earlier time.

An accepted message has the receipt that has come for it so far. With --follow a receipt is a line of its own, without finished_at; --outcome and --errcode leave those lines out, unless --receipt names them.

Examples:
    wxcourier results --since 1h --outcome failed,unknown
    wxcourier results --batch spring-sale --csv > spring-sale.csv
    wxcourier results --since 24h --receipt blocked,failed,none
    wxcourier results --follow --json`
}

// Run lists results.
func (c *resultsCommand) Run(p *program) error {
	from, err := c.since(time.Now())
	if err != nil {
		return err
	}
	if err := c.valid(); err != nil {
		return err
	}
	cfg, err := p.needRedis("results")
	if err != nil {
		return err
	}
	if err := c.Images.Make(); err != nil {
		return err
	}
	rdb, err := app.OpenRedis(p.ctx, cfg.Redis)
	if err != nil {
		return err
	}
	closeRedis := sync.OnceFunc(func() { _ = rdb.Close() })
	defer closeRedis()
	defer context.AfterFunc(p.ctx, closeRedis)() // ends a read that waits for results
	inspector := tasks.NewInspector(rdb)
	apps := c.App
	if len(apps) == 0 {
		if apps, err = inspector.Apps(p.ctx); err != nil {
			return err
		}
		for _, app := range cfg.Apps {
			apps = append(apps, app.ID)
		}
	}
	slices.Sort(apps)
	client := tasks.NewClient(rdb)
	defer client.Close()
	l := &listing{command: c, client: client, inspector: inspector, sink: c.sink(p), ctx: p.ctx, notef: p.notef}
	return l.list(slices.Compact(apps), from)
}

// valid returns a usage error for a filter that no result can match.
func (c *resultsCommand) valid() error {
	for _, outcome := range c.Outcome {
		if !slices.Contains(tasks.Outcomes(), tasks.Outcome(outcome)) {
			return usageErrorf("--outcome: %q is not one of %v", outcome, tasks.Outcomes())
		}
	}
	for _, receipt := range c.Receipt {
		switch {
		case receipt == noReceipt && c.Follow:
			return usageErrorf("--receipt none: has no meaning with --follow, which prints results before their receipts come")
		case receipt != noReceipt && !slices.Contains(tasks.DeliveryReceipts(), tasks.DeliveryReceipt(receipt)):
			return usageErrorf("--receipt: %q is not one of %v and none", receipt, tasks.DeliveryReceipts())
		}
	}
	for _, typ := range c.Type {
		if _, ok := tasks.Lookup(typ); !ok {
			return usageErrorf("--type: there is no task type %q", typ)
		}
	}
	return validApps(c.App)
}

func (c *resultsCommand) since(now time.Time) (tasks.Cursor, error) {
	at, err := sinceTime(c.Since, now)
	if err != nil || at.IsZero() {
		return "", err
	}
	return tasks.Since(at), nil
}

// noReceipt is the name of --receipt for messages whose receipt has not come.
const noReceipt = "none"

// wants reports whether a result is printed. --receipt applies to outcomes only without --follow, and
// after their receipts were added: see hasReceipt.
func (c *resultsCommand) wants(r tasks.Result) bool {
	if len(c.Type) > 0 && !slices.Contains(c.Type, r.Type) || c.Batch != "" && c.Batch != r.Batch {
		return false
	}
	outcomes := len(c.Outcome)+len(c.ErrCode) > 0
	if r.IsReceipt() {
		return c.Follow && (slices.Contains(c.Receipt, string(r.Receipt)) || len(c.Receipt) == 0 && !outcomes)
	}
	return (!c.Follow || outcomes || len(c.Receipt) == 0) &&
		(len(c.Outcome) == 0 || slices.Contains(c.Outcome, string(r.Outcome))) &&
		(len(c.ErrCode) == 0 || slices.Contains(c.ErrCode, r.ErrCode))
}

// hasReceipt reports whether an outcome has a receipt that is wanted.
func (c *resultsCommand) hasReceipt(r tasks.Result) bool {
	switch {
	case len(c.Receipt) == 0:
		return true
	case r.Receipt == "":
		return r.ExpectsReceipt() && slices.Contains(c.Receipt, noReceipt)
	}
	return slices.Contains(c.Receipt, string(r.Receipt))
}

// listing is one run of results.
type listing struct {
	command   *resultsCommand
	client    *tasks.Client
	inspector *tasks.Inspector
	sink      sink
	ctx       context.Context                  //nolint:containedctx // of the command
	notef     func(format string, args ...any) // prints a line to standard error

	mu   sync.Mutex // serializes show
	errs []error    // guarded by mu: images that could not be written, results that were cut
}

// list prints the results of the apps one after the other; with --follow, concurrently.
func (l *listing) list(apps []string, from tasks.Cursor) error {
	var all sync.WaitGroup
	failed := make([]error, len(apps))
	for i, app := range apps {
		if !l.command.Follow {
			failed[i] = l.listApp(app, from)
			continue
		}
		all.Go(func() { failed[i] = l.listApp(app, from) })
	}
	all.Wait()
	failed = append(failed, l.errs...)
	failed = append(failed, l.sink.Flush())
	return errors.Join(failed...)
}

func (l *listing) listApp(app string, from tasks.Cursor) error {
	if from == "" {
		if err := l.noteCut(app); err != nil {
			return err
		}
	}
	var page []tasks.Result
	for r, err := range l.inspector.Results(l.ctx, app, from, l.command.Follow) {
		var cut *tasks.ResultsCutError
		if errors.As(err, &cut) {
			l.cut(cut)
			continue
		}
		if err != nil {
			return errors.Join(l.showAll(page), err)
		}
		if !l.command.wants(r) {
			continue
		}
		if page = append(page, r); l.command.Follow || len(page) == receiptPage {
			if err := l.showAll(page); err != nil {
				return err
			}
			page = page[:0]
		}
	}
	return l.showAll(page)
}

// receiptPage is how many results are read before their receipts are looked up.
const receiptPage = 500

// showAll prints results: without --follow with their receipts.
func (l *listing) showAll(page []tasks.Result) error {
	if !l.command.Follow {
		err := l.inspector.AddReceipts(l.ctx, page)
		if l.ctx.Err() != nil {
			return nil //nolint:nilerr // interrupted: what was printed is the answer
		}
		if err != nil {
			return err
		}
	}
	for _, r := range page {
		if !l.command.Follow && !l.command.hasReceipt(r) {
			continue
		}
		if err := l.show(r); err != nil {
			return fmt.Errorf("write the results: %w", err)
		}
	}
	return nil
}

// noteCut prints, if the stream's length has cut the results of an app, to which time they go back.
func (l *listing) noteCut(app string) error {
	cut, err := l.inspector.ResultsCut(l.ctx, app, "")
	switch {
	case l.ctx.Err() != nil: // interrupted
		err = nil
	case err == nil && cut != nil && cut.ByLength:
		l.notef("wxcourier: %v", cut)
	}
	return err
}

// cut reports results that --since asks for and that are no longer in the stream: as an error, if
// its length has cut them and the command ends by itself.
func (l *listing) cut(cut *tasks.ResultsCutError) {
	if !cut.ByLength || l.command.Follow {
		l.notef("wxcourier: %v", cut)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.errs = append(l.errs, cut)
}

func (l *listing) show(r tasks.Result) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.command.Images.Save(l.ctx, l.client, r, false); err != nil {
		l.errs = append(l.errs, err)
	}
	if err := l.sink.Write(r); err != nil {
		return err
	}
	if l.command.Follow {
		return l.sink.Flush()
	}
	return nil
}

// sink returns the sink of the format that the flags select.
func (c *resultsCommand) sink(p *program) sink {
	switch {
	case c.JSON:
		return printable.NewJSONLines(p.stdout)
	case c.CSV:
		return resultcsv.NewWriter(p.stdout)
	}
	return &tableSink{w: bufio.NewWriterSize(p.stdout, 64<<10)}
}
