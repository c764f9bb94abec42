package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/app"
	"github.com/wxcourier/wxcourier/internal/audit"
	"github.com/wxcourier/wxcourier/internal/printable"
	"github.com/wxcourier/wxcourier/internal/summary"
)

type auditCommand struct {
	App    []string `placeholder:"ID" help:"Only these apps."`
	Action []string `placeholder:"NAME" help:"Only these actions, such as hold, release, cancel, cancel_batch, redrive."`
	By     string   `placeholder:"NAME" help:"Only what this operator (user@host) or key (key:ID) did."`
	Since  string   `placeholder:"TIME" help:"Only entries since then: a duration such as 90m, or a time such as 2026-12-01T08:00:00+08:00."`
	Limit  int      `placeholder:"N" help:"The newest N entries. Default: 100; with --since all."`
	Follow bool     `short:"f" help:"Continue with new entries until interrupted."`
	JSON   bool     `help:"Print JSON Lines."`
}

func (auditCommand) Help() string {
	return `Lists who changed what, oldest first: holds, releases, cancellations, redrives, campaigns and the like, made by the commands, the HTTP API and the console. BY is the user and host of a command, or the key of a request. Redis keeps the newest 10,000 entries, of all apps together.

Examples:
    wxcourier audit
    wxcourier audit --app wx0123456789abcdef --since 24h
    wxcourier audit --action hold,release --json
    wxcourier audit --follow`
}

// auditFollowEvery is the time between two looks for new entries.
const auditFollowEvery = time.Second

// defaultAuditLimit is the number of entries without --limit and --since.
const defaultAuditLimit = 100

// Run lists entries of the audit.
func (c *auditCommand) Run(p *program) error {
	since, err := c.check(time.Now())
	if err != nil {
		return err
	}
	cfg, err := p.needRedis("audit")
	if err != nil {
		return err
	}
	rdb, err := app.OpenRedis(p.ctx, cfg.Redis)
	if err != nil {
		return err
	}
	defer func() { _ = rdb.Close() }()
	entries, last, err := c.kept(p, rdb, since)
	if err != nil {
		return err
	}
	if len(entries) == 0 && !c.Follow && !c.JSON {
		_, err := fmt.Fprintln(p.stdout, "The audit has no such entry.")
		return err
	}
	if err := c.write(p.stdout, entries, true); err != nil || !c.Follow {
		return err
	}
	return c.follow(p, rdb, last)
}

// follow prints new entries until the command is interrupted.
func (c *auditCommand) follow(p *program, rdb redis.UniversalClient, last string) error {
	ticker := time.NewTicker(auditFollowEvery)
	defer ticker.Stop()
	for {
		select {
		case <-p.ctx.Done():
			return nil
		case <-ticker.C:
		}
		entries, next, err := audit.After(p.ctx, rdb, last, c.query(time.Time{}))
		if err == nil {
			last, err = next, c.write(p.stdout, entries, false)
		}
		if err != nil && p.ctx.Err() == nil {
			return err
		}
	}
}

// check returns the time of --since, and a usage error for flags that cannot match.
func (c *auditCommand) check(now time.Time) (time.Time, error) {
	for _, name := range c.Action {
		if !slices.Contains(audit.Actions(), audit.Action(name)) {
			return time.Time{}, usageErrorf("--action: %q is not one of %v", name, audit.Actions())
		}
	}
	if c.Limit < 0 {
		return time.Time{}, usageErrorf("--limit: %d is negative", c.Limit)
	}
	since, err := sinceTime(c.Since, now)
	return since, errors.Join(err, validApps(c.App))
}

func (c *auditCommand) query(since time.Time) audit.Query {
	q := audit.Query{Since: since}
	if len(c.App) > 0 {
		q.Apps = func(app string) bool { return slices.Contains(c.App, app) }
	}
	q.Match = func(e audit.Entry) bool {
		return (len(c.Action) == 0 || slices.Contains(c.Action, string(e.Action))) && (c.By == "" || c.By == e.By)
	}
	return q
}

// kept returns the entries that are kept, the oldest first, and the position after them.
func (c *auditCommand) kept(p *program, rdb redis.UniversalClient, since time.Time) (all []audit.Entry, last string, err error) {
	limit := c.Limit
	if limit == 0 && since.IsZero() {
		limit = defaultAuditLimit
	}
	for last = audit.Start; ; {
		entries, next, err := audit.After(p.ctx, rdb, last, c.query(since))
		if err != nil {
			return nil, "", err
		}
		if all = append(all, entries...); limit > 0 {
			all = all[max(0, len(all)-limit):]
		}
		if next == last {
			return all, last, nil
		}
		last = next
	}
}

// write prints entries.
func (c *auditCommand) write(w io.Writer, entries []audit.Entry, head bool) error {
	if c.JSON {
		encoder := json.NewEncoder(printable.JSONWriter(w))
		encoder.SetEscapeHTML(false)
		for _, e := range entries {
			if err := encoder.Encode(e); err != nil {
				return err
			}
		}
		return nil
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if head {
		_, _ = fmt.Fprintln(table, "TIME\tBY\tVIA\tACTION\tAPP\tTARGET\tTASKS\tNOTE")
	}
	for _, e := range entries {
		count := "-"
		if e.Count != 0 {
			count = summary.Number(int(e.Count))
		}
		cells := []string{e.At.Local().Format(time.DateTime)}
		for _, text := range []string{e.By, e.Via, string(e.Action), e.App, e.Target, count, e.Note} {
			if text == "" {
				text = "-"
			}
			cells = append(cells, printable.Escape(text))
		}
		_, _ = fmt.Fprintln(table, strings.Join(cells, "\t"))
	}
	return table.Flush()
}

// audit records what this command changed.
func (p *program) audit(rdb redis.UniversalClient, e audit.Entry) {
	e.By, e.Via = operator(), audit.CLI
	audit.Record(p.ctx, rdb, p.logger(), e)
}
