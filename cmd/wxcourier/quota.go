package main

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/wxcourier/wxcourier/internal/app"
	"github.com/wxcourier/wxcourier/internal/audit"
	"github.com/wxcourier/wxcourier/internal/describe"
	"github.com/wxcourier/wxcourier/internal/hold"
	"github.com/wxcourier/wxcourier/internal/inspect"
	"github.com/wxcourier/wxcourier/internal/printable"
	"github.com/wxcourier/wxcourier/internal/summary"
	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/tasks"
)

type quotaCommand struct {
	App   string   `required:"" placeholder:"ID" help:"The app."`
	Type  []string `placeholder:"TYPE" help:"Only these task types. Default: those that were used today."`
	Clear bool     `help:"Ask WeChat to clear the app's counts of today, of all APIs. WeChat allows it ten times a month."`
	Yes   bool     `help:"Clear without asking."`
	JSON  bool     `help:"Print JSON, one line per type."`
}

func (quotaCommand) Help() string {
	return `Asks WeChat how much of today's quota is used, and compares it with our own count. A higher count of WeChat's replaces ours. A lower one does once no call of ours can be missing in it: some seconds after the last call.

--clear calls WeChat's clear_quota first. It asks for confirmation, because WeChat allows it ten times a month for each app, including the button in its console.

Examples:
    wxcourier quota --app wx0123456789abcdef
    wxcourier quota --app wx0123456789abcdef --type send:subscribe --clear`
}

// Run asks WeChat for the quotas, and clears them before if that is wanted.
func (c *quotaCommand) Run(p *program) error {
	if err := validApps([]string{c.App}); err != nil {
		return err
	}
	for _, typ := range c.Type {
		if _, ok := tasks.Lookup(typ); !ok {
			return usageErrorf("--type: there is no task type %q; %s", typ, typeHint(typ))
		}
	}
	parts, err := p.connect("quota")
	if err != nil {
		return err
	}
	defer parts.Close()
	if err := requireKnownApp(p, parts, c.App); err != nil {
		return err
	}
	if c.Clear {
		if err := c.clear(p, parts); err != nil {
			return err
		}
	}
	types := c.Type
	if len(types) == 0 {
		if types, err = usedTypes(p, parts, c.App); err != nil {
			return err
		}
	}
	reports, err := p.askQuotas(parts, c.App, types)
	if err != nil {
		return err
	}
	if c.JSON {
		for _, r := range reports {
			if err := p.printJSON(r); err != nil {
				return err
			}
		}
	} else {
		if len(reports) == 0 {
			_, _ = fmt.Fprintln(p.stdout, "Nothing was used today; --type asks about a type.")
		}
		writeReports(p.stdout, reports)
	}
	if slices.ContainsFunc(reports, func(r app.QuotaReport) bool { return r.Error != "" }) {
		return errors.New("WeChat did not answer every query")
	}
	return nil
}

// clear clears the counts at WeChat, after a confirmation.
func (c *quotaCommand) clear(p *program, parts *app.Parts) error {
	if !c.Yes {
		p.notef("This clears today's counts of all APIs of %s at WeChat, which allows it ten times a month.\nType the app id to confirm:", c.App)
		answer, err := bufio.NewReader(p.stdin).ReadString('\n')
		if strings.TrimSpace(answer) != c.App {
			return usageErrorf("not cleared: %s was not confirmed (%s); --yes clears without asking", c.App, cmp.Or(endOfInput(err), "another answer"))
		}
	}
	if err := parts.WeChat.ClearQuota(p.ctx, c.App); err != nil {
		return fmt.Errorf("not cleared: %w", err)
	}
	p.audit(parts.Redis, audit.Entry{Action: audit.ClearQuota, App: c.App})
	p.notef("Cleared at WeChat.")
	return nil
}

// endOfInput names the end of the input; "" for no error.
func endOfInput(err error) string {
	if errors.Is(err, io.EOF) {
		return "the input ended"
	}
	return ""
}

// askQuotas asks WeChat for the quotas of some types, and resumes their queues where that helps.
func (p *program) askQuotas(parts *app.Parts, id string, types []string) ([]app.QuotaReport, error) {
	if len(types) == 0 {
		return nil, nil
	}
	reports, err := parts.AskQuotas(p.ctx, id, types)
	if err := p.ignorePublishError(len(reports) > 0, err); err != nil {
		return nil, err
	}
	p.syncPauses(parts, id)
	return reports, nil
}

// usedTypes returns the types of an app that have used part of a limit of the day or of its
// lifetime.
func usedTypes(p *program, parts *app.Parts, id string) ([]string, error) {
	state, err := readState(p, parts, id)
	var types []string
	for _, l := range state.Lanes {
		if usesQuota(l) {
			types = append(types, l.Type)
		}
	}
	return types, err
}

// usesQuota reports whether a lane has used part of a limit of the day.
func usesQuota(l inspect.LaneUsage) bool {
	return slices.ContainsFunc(l.Windows, func(u ratelimit.Usage) bool { return u.Window == ratelimit.PerDay && u.Used > 0 })
}

// readState reads the state of one app.
func readState(p *program, parts *app.Parts, id string) (inspect.State, error) {
	return inspect.NewReader(parts.Redis, parts.Limiter, parts.Holds).Read(p.ctx, []string{id}, func(app string) bool { return app == id })
}

// writeReports prints what WeChat answered, and what that means.
func writeReports(w io.Writer, reports []app.QuotaReport) {
	for _, r := range reports {
		_, _ = fmt.Fprintf(w, "%s %s: %s\n", r.App, r.Type, printable.Escape(reportText(r)))
		if h, by, ok := inspect.Spent(r.App, r.Type, r.Windows); ok {
			_, _ = fmt.Fprintln(w, "  "+spentText(h, by)+"; releasing cannot end that.")
			if raise := raiseText(h, by); raise != "" {
				_, _ = fmt.Fprintln(w, "  "+raise)
			}
		}
	}
}

// reportText returns what WeChat answered about one type, in one line.
func reportText(r app.QuotaReport) string {
	ours := "our count is " + summary.Number(int(r.After))
	if r.After != r.Before {
		ours += " now, and was " + summary.Number(int(r.Before))
	}
	if r.Error != "" {
		return "WeChat did not tell (" + r.Error + "); " + ours
	}
	if !r.Counted {
		return "WeChat reports no count that can be used; " + ours
	}
	text := fmt.Sprintf("WeChat counts %s of %s calls today; %s", summary.Number(int(r.Used)), summary.Number(int(r.Limit)), ours)
	if r.After <= r.Used || r.After < r.Before {
		return text
	}
	for _, u := range r.Windows {
		if u.Name == r.Type && u.Window == ratelimit.PerDay && !u.Granted.IsZero() {
			if wait := u.Granted.Add(r.Settle).Sub(r.Asked); wait > 0 {
				return fmt.Sprintf("%s: the last call may be missing in WeChat's; ask again in %v", text, wait.Truncate(time.Second)+time.Second)
			}
		}
	}
	return text + ": WeChat's may be a hundredth too low"
}

// spentText says what a limit that is spent by our own count stops, and until when.
func spentText(h hold.Hold, by ratelimit.Usage) string {
	limit, window := summary.Number(int(by.Effective())), "of the day"
	if by.Window == ratelimit.Total {
		window = "of the app's lifetime"
	}
	what := fmt.Sprintf("%s of %s calls %s are used, by our own count", summary.Number(int(by.Used)), limit, window)
	if by.Name != scopeType(h.Scope) {
		what = by.Name + ": " + what
	}
	if h.Reason == inspect.ReasonQuotaReserved {
		what += fmt.Sprintf(", and the last %s are reserved for urgent tasks (reserve_urgent): bulk tasks wait", summary.Number(int(by.Reserved)))
	}
	if h.Until.IsZero() {
		return what + ", and nothing ends that by itself"
	}
	return what + ", " + describe.Until(h)
}

// raiseText says which limit to raise where the configured one is the lower; "" where it is not.
func raiseText(h hold.Hold, by ratelimit.Usage) string {
	if by.Limit == 0 || by.Learned > 0 && by.Learned <= by.Limit {
		return ""
	}
	key, wechats := "per_day", "WeChat's is not known"
	if by.Window == ratelimit.Total {
		key, wechats = "total", "WeChat does not report its own"
	}
	if by.Learned > 0 {
		wechats = "WeChat's is " + summary.Number(int(by.Learned))
	}
	return fmt.Sprintf("The limit is the configured or documented one (%s). To send more: raise limits.%q.%s of %s in the configuration of the workers.", wechats, by.Name, key, h.App)
}

// scopeType returns the type of the scope of a spent limit.
func scopeType(scope string) string {
	if typ, ok := hold.ParseBulk(scope); ok {
		return typ
	}
	return scope
}

// writeRemedies prints below the holds, for each spent quota, the cause and the remedy.
func (o overview) writeRemedies(w io.Writer) {
	for _, s := range o.Spent() {
		_, _ = fmt.Fprintf(w, "%s %s: %s%s.\n", s.App, describe.Scope(scopeType(s.Scope)), o.waitText(s.Hold), spentText(s.Hold, s.Window))
		if s.Window.Window == ratelimit.PerDay {
			_, _ = fmt.Fprintf(w, "  If WeChat has cleared its count: wxcourier release --app %s --type %s\n", s.App, scopeType(s.Scope))
		}
		if raise := raiseText(s.Hold, s.Window); raise != "" {
			_, _ = fmt.Fprintln(w, "  "+raise)
		}
	}
	for _, h := range o.Holds {
		if h.Reason == inspect.ReasonQuotaDay && strings.HasPrefix(h.By, hold.ReplicaPrefix) {
			_, _ = fmt.Fprintf(w, "%s %s: %sWeChat refused a call for the quota of the day (%d), %s.\n  If WeChat has cleared its count: wxcourier release --app %s%s\n",
				h.App, describe.Scope(h.Scope), o.waitText(h), h.Code, describe.Until(h), h.App, typeFlag(h.Scope))
		}
	}
}

// typeFlag returns the flag of release for a scope.
func typeFlag(scope string) string {
	if scope == hold.WholeApp {
		return ""
	}
	return " --type " + scope
}

// waitText counts the tasks that wait behind a hold.
func (o overview) waitText(h hold.Hold) string {
	var n int64
	for _, l := range o.Lanes {
		bulk := h.Scope == hold.BulkScope(l.Type)
		if l.App != h.App || !bulk && !h.Stops(l.App, l.Type) {
			continue
		}
		if n += l.Bulk; !bulk {
			n += l.Waiting
		}
	}
	if n == 0 {
		return ""
	}
	if n == 1 {
		return "1 task waits: "
	}
	return describe.Count(int(n), "task") + " wait: "
}
