package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/wxcourier/wxcourier/internal/app"
	"github.com/wxcourier/wxcourier/internal/describe"
	"github.com/wxcourier/wxcourier/internal/dispatch"
	"github.com/wxcourier/wxcourier/internal/hold"
	"github.com/wxcourier/wxcourier/internal/inspect"
	"github.com/wxcourier/wxcourier/internal/printable"
	"github.com/wxcourier/wxcourier/internal/summary"
	"github.com/wxcourier/wxcourier/ratelimit"
)

type statusCommand struct {
	App  []string `placeholder:"ID" help:"Only these apps. Default: all that are configured or have queues."`
	JSON bool     `help:"Print JSON."`
}

func (statusCommand) Help() string {
	return `Shows the lanes that hold tasks or have used part of a limit, their limits, the hours, the holds, the replicas, and the queues of apps that are not configured here.

ACTIVE tasks are being processed by a replica. RETRYING tasks wait for another attempt or for the hours to open; held tasks are WAITING. ARCHIVED tasks failed or ended as unknown.

The effective limit is the lower of CONFIGURED (or documented) and WECHAT, the one that WeChat reports. PACE is the share of it in use after WeChat refused calls as too fast; it recovers by itself.

Examples:
    wxcourier status
    wxcourier status --app wx0123456789abcdef --json`
}

// overview is the output of status.
type overview struct {
	inspect.State
	Hours []app.HoursStatus `json:"hours"`
}

// Run prints the state of lanes, limits, hours and holds.
func (c *statusCommand) Run(p *program) error {
	parts, err := p.connect("status")
	if err != nil {
		return err
	}
	defer parts.Close()
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

func (c *statusCommand) overview(p *program, parts *app.Parts) (overview, error) {
	wanted := func(id string) bool { return len(c.App) == 0 || slices.Contains(c.App, id) }
	seen := overview{Hours: []app.HoursStatus{}}
	var apps []string
	for _, configured := range parts.Config.Apps {
		apps = append(apps, configured.ID)
		if wanted(configured.ID) {
			seen.Hours = append(seen.Hours, app.HoursOf(configured.ID, configured.Hours, time.Now())...)
		}
	}
	var err error
	seen.State, err = inspect.NewReader(parts.Redis, parts.Limiter, parts.Holds).Read(p.ctx, apps, wanted)
	return seen, err
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
			_, _ = fmt.Fprintln(w, "  "+h.String())
		}
	}
	if len(o.Holds) > 0 {
		_, _ = fmt.Fprintln(w, "\nHolds:")
		writeHolds(w, o.Holds)
	}
	writeReplicas(w, o.Replicas)
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

// writeLimits prints the configured limit, WeChat's limit and the use of each window. A window
// that several lanes share is printed once.
func (o overview) writeLimits(w io.Writer) {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	defer func() { _ = table.Flush() }()
	written := make(map[string]bool)
	for _, l := range o.Lanes {
		for _, u := range l.Windows {
			key := l.App + " " + u.Name + " " + string(u.Window)
			if written[key] {
				continue
			}
			if len(written) == 0 {
				_, _ = fmt.Fprintln(table, "\nAPP\tLIMIT\tWINDOW\tCONFIGURED\tWECHAT\tUSED\tPACE")
			}
			written[key] = true
			_, _ = fmt.Fprintln(table, strings.Join(append([]string{l.App, u.Name}, limitCells(u)...), "\t"))
		}
	}
}

// limitCells returns the cells of one window.
func limitCells(u ratelimit.Usage) []string {
	count := func(n int64) string {
		if n == 0 {
			return "-"
		}
		return summary.Number(int(n))
	}
	used := summary.Number(int(u.Used)) + " of " + summary.Number(int(u.Effective()))
	return []string{string(u.Window), count(u.Limit), count(u.Learned), used, paceText(u)}
}

// paceText returns the pace factor of a window; "-" for day and total, which have none.
func paceText(u ratelimit.Usage) string {
	switch {
	case u.Window == ratelimit.PerDay || u.Window == ratelimit.Total:
		return "-"
	case u.Factor < 1:
		return fmt.Sprintf("slowed to %.0f %%", math.Floor(100*u.Factor+1e-9))
	}
	return "full"
}

// writeHolds prints holds as a table, and below it the errcodes missing in the code table.
func writeHolds(w io.Writer, holds []hold.Hold) {
	writeHoldTable(w, holds)
	for _, h := range holds {
		if h.Reason == dispatch.ReasonUnlistedCode {
			_, _ = fmt.Fprintf(w, "errcode %d of %s %s has no row in the code table of this version: report it to the maintainers, or add a row to wechat/errcode.go\n",
				h.Code, h.App, describe.Scope(h.Scope))
		}
	}
}

func writeHoldTable(w io.Writer, holds []hold.Hold) {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	defer func() { _ = table.Flush() }()
	_, _ = fmt.Fprintln(table, "APP\tHELD\tREASON\tERRCODE\tSINCE\tUNTIL\tBY")
	for _, h := range holds {
		code := "-"
		if h.Code != 0 {
			code = strconv.Itoa(h.Code)
		}
		until := describe.Until(h)
		if !h.Until.IsZero() {
			until = h.Until.Local().Format(time.DateTime)
		}
		_, _ = fmt.Fprintln(table, strings.Join([]string{
			h.App, describe.Scope(h.Scope), describe.Reason(h), code, h.Since.Local().Format(time.DateTime), until, printable.Escape(h.By),
		}, "\t"))
	}
}
