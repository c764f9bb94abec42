package main

import (
	"fmt"
	"slices"

	"github.com/wxcourier/wxcourier/internal/app"
	"github.com/wxcourier/wxcourier/internal/audit"
	"github.com/wxcourier/wxcourier/internal/describe"
	"github.com/wxcourier/wxcourier/internal/hold"
	"github.com/wxcourier/wxcourier/internal/inspect"
)

type releaseCommand struct {
	holdScope
	JSON bool `help:"Print the released hold as JSON."`
}

func (releaseCommand) Help() string {
	return `Ends a hold that "wxcourier hold" or a worker has set. The scope must be the one that status shows: releasing an app does not release its types. Waiting tasks continue at their usual pace. If the cause persists, the worker sets the hold again. Repeating the command is safe.

Where a quota was the cause, or is spent by our own count, the command asks WeChat for its count and believes one that went down. A limit that is spent stays so: the command then says until when, and what would help.

Examples:
    wxcourier release --app wx0123456789abcdef
    wxcourier release --app wx0123456789abcdef --type send:subscribe`
}

// releaseReceipt is the output of release --json.
type releaseReceipt struct {
	Released bool       `json:"released"` // false: nothing was held
	App      string     `json:"app"`
	Scope    string     `json:"scope"`
	Hold     *hold.Hold `json:"hold,omitempty"` // the released hold

	Quotas []app.QuotaReport `json:"quotas,omitempty"` // WeChat's answers, where a quota was the cause
}

// Run ends a hold.
func (c *releaseCommand) Run(p *program) error {
	scope, err := c.name()
	if err != nil {
		return err
	}
	parts, err := p.connect("release")
	if err != nil {
		return err
	}
	defer parts.Close()
	h, held, err := parts.Holds.Get(p.ctx, c.App, scope)
	if err != nil {
		return err
	}
	if !held {
		if err := requireKnownApp(p, parts, c.App); err != nil {
			return err
		}
	}
	if scope == hold.WholeApp { // or else the next call fails with the last error, and holds the app again
		if err := parts.Tokens.EndBackoff(p.ctx, c.App); err != nil {
			return err
		}
	}
	released, err := parts.Holds.Lift(p.ctx, c.App, scope)
	if err := p.ignorePublishError(released, err); err != nil {
		return err
	}
	if released {
		p.audit(parts.Redis, audit.Entry{Action: audit.Release, App: c.App, Target: scope, Note: h.Reason})
	}
	p.syncPauses(parts, c.App)
	receipt := releaseReceipt{Released: released, App: c.App, Scope: scope}
	if held && released {
		receipt.Hold = &h
	}
	if receipt.Quotas, err = c.askQuotas(p, parts, receipt); err != nil {
		return err
	}
	if c.JSON {
		return p.printJSON(receipt)
	}
	text := "Nothing was held: " + c.App + " " + describe.Scope(scope)
	if receipt.Hold != nil {
		text = "Released: " + describe.Hold(h) + ", by " + h.By
	}
	_, err = fmt.Fprintln(p.stdout, text)
	writeReports(p.stdout, receipt.Quotas)
	return err
}

// askQuotas asks WeChat for the quotas of the types that were held for one, or whose limit of the
// day is spent by our own count.
func (c *releaseCommand) askQuotas(p *program, parts *app.Parts, released releaseReceipt) ([]app.QuotaReport, error) {
	if hold.IsTemplate(released.Scope) {
		return nil, nil
	}
	state, err := readState(p, parts, c.App)
	if err != nil {
		return nil, err
	}
	held := hold.Hold{App: c.App, Scope: released.Scope}
	var types []string
	if h := released.Hold; h != nil && h.Reason == inspect.ReasonQuotaDay && h.Scope != hold.WholeApp {
		types = append(types, h.Scope)
	}
	for _, s := range state.Spent() {
		if typ := scopeType(s.Scope); held.Stops(c.App, typ) && !slices.Contains(types, typ) {
			types = append(types, typ)
		}
	}
	return p.askQuotas(parts, c.App, types)
}
