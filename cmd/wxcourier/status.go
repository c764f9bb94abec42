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

	"github.com/wxcourier/wxcourier/gateway/webhook"
	"github.com/wxcourier/wxcourier/internal/app"
	"github.com/wxcourier/wxcourier/internal/describe"
	"github.com/wxcourier/wxcourier/internal/dispatch"
	"github.com/wxcourier/wxcourier/internal/hold"
	"github.com/wxcourier/wxcourier/internal/inspect"
	"github.com/wxcourier/wxcourier/internal/printable"
	"github.com/wxcourier/wxcourier/internal/summary"
	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/tasks"
)

type statusCommand struct {
	App   []string `placeholder:"ID" help:"Only these apps. Default: all that are configured or have queues."`
	Batch string   `placeholder:"NAME" help:"Only the progress of this batch: its outcomes, its rate and the time left."`
	JSON  bool     `help:"Print JSON."`

	Refresh bool `help:"Ask WeChat for today's quotas first, and believe counts that went down."`
}

func (statusCommand) Help() string {
	return `Shows the lanes that hold tasks or have used part of a limit, their limits, the hours, the holds, the replicas, and the queues of apps that are not configured here.

ACTIVE tasks are being processed by a replica. RETRYING tasks wait for another attempt or for the hours to open; held tasks are WAITING. ARCHIVED tasks failed or ended as unknown.

The effective limit is the lower of CONFIGURED (or documented) and WECHAT, the one that WeChat reports. PACE is the share of it in use after WeChat refused calls as too fast; it recovers by itself.

CONFIG tells apart the configurations of the replicas, and READ is when a replica took its own over. A replica keeps the one that it has when a newer one has mistakes.

Where consent of an app is observe or enforce, STOPPED messages were refused without a call. WOULD SAVE is how many calls that met 43101 enforce would have saved, and WOULD BE WRONG how many messages it would have refused although WeChat accepted them. 43101 counts the calls that met it although the count did not speak against them.

A limit that is spent by our own count is listed with the holds, BY our count. --refresh asks WeChat's quota/get about each type that has used part of a day's limit.

Examples:
    wxcourier status
    wxcourier status --batch spring-sale
    wxcourier status --app wx0123456789abcdef --json
    wxcourier status --app wx0123456789abcdef --refresh`
}

// overview is the output of status.
type overview struct {
	inspect.State
	Hours  []app.HoursStatus `json:"hours"`
	Quotas []app.QuotaReport `json:"quotas,omitempty"` // with --refresh: WeChat's answers

	Webhooks []webhook.Status `json:"webhooks,omitempty"`
	Consents []consentStatus  `json:"consents,omitempty"` // of the apps whose consents are counted
}

// Run prints the state of lanes, limits, hours and holds, or the progress of a batch.
func (c *statusCommand) Run(p *program) error {
	if c.Batch != "" && !tasks.ValidBatch(c.Batch) {
		return usageErrorf("--batch: %q is not a valid batch name", c.Batch)
	}
	parts, err := p.connect("status")
	if err != nil {
		return err
	}
	defer parts.Close()
	if c.Batch != "" {
		return c.batch(p, parts)
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

func (c *statusCommand) overview(p *program, parts *app.Parts) (overview, error) {
	wanted := func(id string) bool { return len(c.App) == 0 || slices.Contains(c.App, id) }
	seen := overview{Hours: []app.HoursStatus{}}
	var apps []string
	for _, configured := range parts.Current().Apps {
		apps = append(apps, configured.ID)
		if wanted(configured.ID) {
			seen.Hours = append(seen.Hours, app.HoursOf(configured.ID, configured.Hours, time.Now())...)
		}
	}
	var err error
	if seen.Webhooks, err = webhook.List(p.ctx, parts.Redis, parts.Config.Webhooks); err != nil {
		return seen, err
	}
	seen.Webhooks = slices.DeleteFunc(seen.Webhooks, func(s webhook.Status) bool { return !wanted(s.App) })
	if seen.Consents, err = readConsents(p, parts, wanted); err != nil {
		return seen, err
	}
	reader := inspect.NewReader(parts.Redis, parts.Limiter, parts.Holds)
	if seen.State, err = reader.Read(p.ctx, apps, wanted); err != nil || !c.Refresh {
		return seen, err
	}
	if seen.Quotas, err = refreshQuotas(p, parts, seen.Lanes); err != nil {
		return seen, err
	}
	seen.State, err = reader.Read(p.ctx, apps, wanted)
	return seen, err
}

// refreshQuotas asks WeChat for the quotas of the lanes that have used part of a day's limit.
func refreshQuotas(p *program, parts *app.Parts, lanes []inspect.LaneUsage) ([]app.QuotaReport, error) {
	var apps []string
	types := make(map[string][]string)
	for _, l := range lanes {
		if usesQuota(l) {
			apps = append(apps, l.App)
			types[l.App] = append(types[l.App], l.Type)
		}
	}
	var all []app.QuotaReport
	for _, id := range slices.Compact(apps) {
		reports, err := p.askQuotas(parts, id, types[id])
		if err != nil {
			return nil, err
		}
		all = append(all, reports...)
	}
	return all, nil
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
		o.writeRemedies(w)
	}
	if len(o.Quotas) > 0 {
		_, _ = fmt.Fprintln(w, "\nQuotas, as WeChat counts:")
		for _, r := range o.Quotas {
			_, _ = fmt.Fprintf(w, "  %s %s: %s\n", r.App, r.Type, printable.Escape(reportText(r)))
		}
	}
	if len(o.Webhooks) > 0 {
		_, _ = fmt.Fprintln(w, "\nWebhooks:")
		writeWebhooks(w, o.Webhooks)
	}
	writeConsents(w, o.Consents)
	writeReplicas(w, o.Replicas)
	writeGateways(w, o.Gateways)
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

// writeHolds prints holds as a table, and below it what to do about them, and the errcodes missing
// in the code table.
func writeHolds(w io.Writer, holds []hold.Hold) {
	writeHoldTable(w, holds)
	for _, h := range holds {
		if remedy := dispatch.Remedy(h); remedy != "" {
			_, _ = fmt.Fprintf(w, "%s %s: %s\n", h.App, describe.Scope(h.Scope), printable.Escape(remedy))
		}
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
		since, until := "-", describe.Until(h)
		if !h.Since.IsZero() {
			since = h.Since.Local().Format(time.DateTime)
		}
		if !h.Until.IsZero() && !dispatch.Probed(h) {
			until = h.Until.Local().Format(time.DateTime)
		}
		_, _ = fmt.Fprintln(table, strings.Join([]string{
			h.App, describe.Scope(h.Scope), describe.Reason(h), code, since, until, printable.Escape(h.By),
		}, "\t"))
	}
}
