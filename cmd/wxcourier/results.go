package main

import (
	"bufio"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/wxcourier/wxcourier/internal/app"
	"github.com/wxcourier/wxcourier/internal/images"
	"github.com/wxcourier/wxcourier/internal/printable"
	"github.com/wxcourier/wxcourier/tasks"
)

type resultsCommand struct {
	App     []string      `placeholder:"ID" help:"Only these apps. Default: all."`
	Type    []string      `placeholder:"TYPE" help:"Only these task types."`
	Batch   string        `placeholder:"NAME" help:"Only this batch."`
	Outcome []string      `placeholder:"NAME" help:"Only these outcomes: accepted, refused, rejected, expired, failed, unknown, canceled."`
	ErrCode []int         `name:"errcode" placeholder:"N" help:"Only these error codes of WeChat."`
	Since   string        `placeholder:"TIME" help:"Only results since then: a duration such as 90m, or a time such as 2026-12-01T08:00:00+08:00."`
	Follow  bool          `short:"f" help:"Continue with new results until interrupted."`
	JSON    bool          `xor:"format" help:"Print JSON Lines."`
	CSV     bool          `name:"csv" xor:"format" help:"Print CSV with a header."`
	Images  images.Folder `placeholder:"DIR" help:"Write the images of codes into DIR, as <app>-<id>.png or .jpg."`
}

func (resultsCommand) Help() string {
	return `Lists the results of ended tasks by app, oldest first, as far back as results.stream_max_len reaches.

Examples:
    wxcourier results --since 1h --outcome failed,unknown
    wxcourier results --batch spring-sale --csv > spring-sale.csv
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
	client := tasks.NewClient(rdb)
	apps := c.App
	if len(apps) == 0 {
		if apps, err = client.Apps(p.ctx); err != nil {
			return err
		}
		for _, app := range cfg.Apps {
			apps = append(apps, app.ID)
		}
	}
	slices.Sort(apps)
	l := &listing{command: c, client: client, sink: c.sink(p), ctx: p.ctx}
	return l.list(slices.Compact(apps), from)
}

// valid returns a usage error for a filter that no result can match.
func (c *resultsCommand) valid() error {
	for _, outcome := range c.Outcome {
		if !slices.Contains(tasks.Outcomes(), tasks.Outcome(outcome)) {
			return usageErrorf("--outcome: %q is not one of %v", outcome, tasks.Outcomes())
		}
	}
	for _, typ := range c.Type {
		if _, ok := tasks.Lookup(typ); !ok {
			return usageErrorf("--type: there is no task type %q", typ)
		}
	}
	return validApps(c.App)
}

func validApps(apps []string) error {
	for _, app := range apps {
		if !tasks.ValidApp(app) {
			return usageErrorf(`--app: %q is not an app id: "wx" and 16 of the characters 0-9 and a-f`, app)
		}
	}
	return nil
}

func (c *resultsCommand) since(now time.Time) (tasks.Cursor, error) {
	at, err := sinceTime(c.Since, now)
	if err != nil || at.IsZero() {
		return "", err
	}
	return tasks.Since(at), nil
}

// sinceTime parses --since: a time, or a duration before now; "" is the zero time.
func sinceTime(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, usageErrorf("--since: %q is neither a duration such as 90m nor a time such as 2026-12-01T08:00:00+08:00", text)
	}
	return at, nil
}

func (c *resultsCommand) wants(r tasks.Result) bool {
	return (len(c.Type) == 0 || slices.Contains(c.Type, r.Type)) &&
		(c.Batch == "" || c.Batch == r.Batch) &&
		(len(c.Outcome) == 0 || slices.Contains(c.Outcome, string(r.Outcome))) &&
		(len(c.ErrCode) == 0 || slices.Contains(c.ErrCode, r.ErrCode))
}

// listing is one run of results.
type listing struct {
	command *resultsCommand
	client  *tasks.Client
	sink    sink
	ctx     context.Context //nolint:containedctx // of the command

	mu   sync.Mutex // serializes show
	errs []error    // guarded by mu: images that could not be written
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
	for r, err := range l.client.Results(l.ctx, app, from, l.command.Follow) {
		if err != nil {
			return err
		}
		if !l.command.wants(r) {
			continue
		}
		if err := l.show(r); err != nil {
			return fmt.Errorf("write the results: %w", err)
		}
	}
	return nil
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

// A sink writes results in one output format.
type sink interface {
	Write(v any) error
	Flush() error
}

func (c *resultsCommand) sink(p *program) sink {
	switch {
	case c.JSON:
		return printable.NewJSONLines(p.stdout)
	case c.CSV:
		return &csvSink{w: csv.NewWriter(p.stdout), columns: csvColumns()}
	}
	return &tableSink{w: bufio.NewWriterSize(p.stdout, 64<<10)}
}

// csvColumn is a column of the CSV: the JSON name of a result's field, and the field's text.
type csvColumn struct {
	name  string
	value func(tasks.Result) string
}

// csvColumns returns the columns in their order. They are all fields of a result but the state,
// which is always done. New columns come last, since programs read the others by position.
func csvColumns() []csvColumn {
	return []csvColumn{
		{"finished_at", func(r tasks.Result) string { return stamp(r.FinishedAt, time.RFC3339) }},
		{"app", func(r tasks.Result) string { return r.App }},
		{"type", func(r tasks.Result) string { return r.Type }},
		{"id", func(r tasks.Result) string { return r.ID }},
		{"batch", func(r tasks.Result) string { return r.Batch }},
		{"outcome", func(r tasks.Result) string { return string(r.Outcome) }},
		{"errcode", func(r tasks.Result) string { return strconv.Itoa(r.ErrCode) }},
		{"errmsg", func(r tasks.Result) string { return r.ErrMsg }},
		{"rid", func(r tasks.Result) string { return r.RID }},
		{"attempts", func(r tasks.Result) string { return strconv.Itoa(r.Attempts) }},
		{"msgid", func(r tasks.Result) string { return r.MsgID }},
		{"openlink", func(r tasks.Result) string { return r.OpenLink }},
		{"url_link", func(r tasks.Result) string { return r.URLLink }},
		{"link", func(r tasks.Result) string { return r.Link }},
		{"image", func(r tasks.Result) string { return r.Image }},
		{"suggest", func(r tasks.Result) string { return r.Suggest }},
		{"label", func(r tasks.Result) string { return r.Label }},
		{"trace_id", func(r tasks.Result) string { return r.TraceID }},
		{"reason", func(r tasks.Result) string { return r.Reason }},
		{"enqueued_at", func(r tasks.Result) string { return stamp(r.EnqueuedAt, time.RFC3339) }},
		{"generation", func(r tasks.Result) string { return strconv.Itoa(r.Generation) }},
		{"supersedes", func(r tasks.Result) string { return string(r.Supersedes) }},
	}
}

// csvSink writes a header and one row per result.
type csvSink struct {
	w       *csv.Writer
	columns []csvColumn
	begun   bool
}

// Write writes the row of a result.
func (s *csvSink) Write(v any) error {
	r, _ := v.(tasks.Result)
	if err := s.header(); err != nil {
		return err
	}
	row := make([]string, 0, len(s.columns))
	for _, column := range s.columns {
		row = append(row, printable.Escape(column.value(r)))
	}
	return s.w.Write(row)
}

func (s *csvSink) header() error {
	if s.begun {
		return nil
	}
	s.begun = true
	var names []string
	for _, column := range s.columns {
		names = append(names, column.name)
	}
	return s.w.Write(names)
}

// Flush writes the header, if no row did, and the rows so far.
func (s *csvSink) Flush() error {
	if err := s.header(); err != nil {
		return err
	}
	s.w.Flush()
	return s.w.Error()
}

// tableSink writes columns of fixed widths, so that it need not know all results first.
type tableSink struct {
	w     *bufio.Writer
	begun bool
}

const tableRow = "%-19s  %-18s  %-17s  %-8s  %7s  %-24s  %s"

// Write writes the row of a result.
func (s *tableSink) Write(v any) error {
	r, _ := v.(tasks.Result)
	if !s.begun {
		s.begun = true
		if err := s.line("FINISHED", "APP", "TYPE", "OUTCOME", "ERRCODE", "ID", "DETAIL"); err != nil {
			return err
		}
	}
	return s.line(stamp(r.FinishedAt, time.DateTime), r.App, r.Type, string(r.Outcome), strconv.Itoa(r.ErrCode), r.ID, detail(r))
}

func (s *tableSink) line(cells ...any) error {
	_, err := fmt.Fprintln(s.w, printable.Escape(strings.TrimRight(fmt.Sprintf(tableRow, cells...), " ")))
	return err
}

// Flush writes the rows so far.
func (s *tableSink) Flush() error { return s.w.Flush() }

// detail returns the most important fields of a result.
func detail(r tasks.Result) string {
	generation := ""
	if r.Generation > 0 {
		generation = fmt.Sprintf("(generation %d)", r.Generation)
	}
	if r.Outcome != tasks.OutcomeAccepted {
		return strings.Join(filled(r.Reason, r.ErrMsg, r.RID, generation), " ")
	}
	return strings.Join(filled(r.OpenLink, r.URLLink, r.Link, r.Suggest, r.Label, r.MsgID, r.Image, generation), " ")
}

func filled(texts ...string) []string {
	return slices.DeleteFunc(texts, func(s string) bool { return s == "" })
}

func stamp(t time.Time, layout string) string {
	if t.IsZero() {
		return ""
	}
	return t.Local().Format(layout)
}
