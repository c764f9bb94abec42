package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/wxcourier/wxcourier/internal/backlog"
	"github.com/wxcourier/wxcourier/internal/describe"
	"github.com/wxcourier/wxcourier/internal/printable"
	"github.com/wxcourier/wxcourier/internal/summary"
	"github.com/wxcourier/wxcourier/ratelimit"
)

type statusCommand struct {
	App  []string `placeholder:"ID" help:"Only these apps. Default: all that are configured or have queues."`
	JSON bool     `help:"Print JSON."`
}

func (statusCommand) Help() string {
	return `Shows the lanes that hold tasks or have used part of a limit, their limits, the hours, the holds, and the queues of apps that are not configured here.

ACTIVE tasks are being processed by a replica. RETRYING tasks wait for another attempt or for the hours to open; held tasks are WAITING. ARCHIVED tasks failed or ended as unknown.

The effective limit is the lower of CONFIGURED (or documented) and WECHAT, the one that WeChat reports. PACE is the share of it in use after WeChat refused calls as too fast; it recovers by itself.

Examples:
    wxcourier status
    wxcourier status --app wx0123456789abcdef --json`
}

// laneStatus is a lane with the windows of its limits.
type laneStatus struct {
	backlog.Lane
	Windows []ratelimit.Usage `json:"windows,omitempty"`
}

// overview is the output of status.
type overview struct {
	Lanes   []laneStatus     `json:"lanes"`
	Hours   []hoursStatus    `json:"hours"`
	Holds   []ratelimit.Hold `json:"holds"`
	Orphans []backlog.Lane   `json:"orphans"` // of apps that are not configured here
}

// Run prints the state of lanes, limits, hours and holds.
func (c *statusCommand) Run(p *program) error {
	cfg, err := p.needRedis("status")
	if err != nil {
		return err
	}
	parts, err := newParts(cfg, p.logger(), credentialsOf(cfg.Apps))
	if err != nil {
		return err
	}
	defer parts.close()
	if err := pingRedis(p.ctx, cfg.Redis, parts.rdb); err != nil {
		return err
	}
	seen, err := c.overview(p, parts)
	if err != nil {
		return err
	}
	if c.JSON {
		encoder := json.NewEncoder(printable.JSONWriter(p.stdout))
		encoder.SetIndent("", "  ")
		encoder.SetEscapeHTML(false)
		return encoder.Encode(seen)
	}
	return seen.write(p.stdout)
}

func (c *statusCommand) overview(p *program, parts *parts) (overview, error) {
	seen := overview{Lanes: []laneStatus{}, Hours: []hoursStatus{}, Holds: []ratelimit.Hold{}, Orphans: []backlog.Lane{}}
	var apps []string
	for _, app := range parts.cfg.Apps {
		apps = append(apps, app.ID)
		if len(c.App) == 0 || slices.Contains(c.App, app.ID) {
			seen.Hours = append(seen.Hours, hoursOf(app.ID, app.Hours, time.Now())...)
		}
	}
	lanes, err := backlog.Read(p.ctx, parts.rdb, apps)
	if err != nil {
		return seen, err
	}
	for _, lane := range lanes {
		if len(c.App) > 0 && !slices.Contains(c.App, lane.App) {
			continue
		}
		if !slices.Contains(apps, lane.App) {
			if !lane.Empty() {
				seen.Orphans = append(seen.Orphans, lane)
			}
			continue
		}
		windows, err := parts.limiter.Usage(p.ctx, lane.App, lane.Type)
		if err != nil {
			return seen, err
		}
		used := slices.ContainsFunc(windows, func(u ratelimit.Usage) bool { return u.Used > 0 })
		if used || !lane.Empty() {
			seen.Lanes = append(seen.Lanes, laneStatus{lane, windows})
		}
	}
	seen.Holds, err = c.holds(p, parts, apps)
	return seen, err
}

// holds returns the holds of the configured apps and of all apps with enqueued tasks.
func (c *statusCommand) holds(p *program, parts *parts, configured []string) ([]ratelimit.Hold, error) {
	known, err := parts.client.Apps(p.ctx)
	if err != nil {
		return nil, err
	}
	known = append(known, configured...)
	slices.Sort(known)
	known = slices.DeleteFunc(slices.Compact(known), func(app string) bool { return len(c.App) > 0 && !slices.Contains(c.App, app) })
	holds, err := parts.limiter.Holds(p.ctx, known...)
	return append([]ratelimit.Hold{}, holds...), err // an empty list in JSON, not null
}

func (o overview) write(w io.Writer) error {
	if len(o.Lanes) == 0 {
		_, _ = fmt.Fprintln(w, "No tasks are waiting, and no limit was used.")
	} else {
		o.writeLanes(w)
		o.writeLimits(w)
	}
	if len(o.Hours) > 0 {
		_, _ = fmt.Fprintln(w, "\nHours:")
		for _, h := range o.Hours {
			_, _ = fmt.Fprintln(w, "  "+h.text())
		}
	}
	if len(o.Holds) > 0 {
		_, _ = fmt.Fprintln(w, "\nHolds:")
		writeHolds(w, o.Holds)
	}
	if len(o.Orphans) > 0 {
		_, _ = fmt.Fprintln(w, "\nQueues of apps that are not configured here; workers with this configuration do not deliver them:")
		for _, l := range o.Orphans {
			_, _ = fmt.Fprintf(w, "  %s %s: %s\n", l.App, l.Type, describe.Count(int(l.Waiting+l.Bulk+l.Scheduled+l.Retrying+l.Active), "task"))
		}
	}
	return nil
}

func (o overview) writeLanes(w io.Writer) {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	defer func() { _ = table.Flush() }()
	_, _ = fmt.Fprintln(table, "APP\tTYPE\tWAITING\tBULK\tSCHEDULED\tRETRYING\tACTIVE\tARCHIVED\tPAUSED")
	for _, l := range o.Lanes {
		paused := "-"
		if l.Paused {
			paused = "by hand"
			if l.PausedBy != "" {
				paused = describe.Scope(l.PausedBy)
			}
		}
		cells := []string{l.App, l.Type}
		for _, n := range []int64{l.Waiting, l.Bulk, l.Scheduled, l.Retrying, l.Active, l.Archived} {
			cells = append(cells, summary.Number(int(n)))
		}
		_, _ = fmt.Fprintln(table, strings.Join(append(cells, paused), "\t"))
	}
}
