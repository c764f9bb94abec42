package main

import (
	"fmt"

	"github.com/wxcourier/wxcourier/ratelimit"
)

type releaseCommand struct {
	holdScope
	JSON bool `help:"Print what was released, as JSON."`
}

func (releaseCommand) Help() string {
	return `Ends a hold that "wxcourier hold" or a worker has set, with the very scope that status shows: that of an app does not end those of its types. What waits goes on at its usual pace. Where the cause has not gone, the worker meets it again and holds again. Repeating the command does no harm.

Examples:
    wxcourier release --app wx0123456789abcdef
    wxcourier release --app wx0123456789abcdef --type send:subscribe`
}

// releaseReceipt is what release prints with --json.
type releaseReceipt struct {
	Released bool            `json:"released"` // false: nothing was held
	App      string          `json:"app"`
	Scope    string          `json:"scope"`
	Hold     *ratelimit.Hold `json:"hold,omitempty"` // what was released
}

// Run lifts a hold.
func (c *releaseCommand) Run(p *program) error {
	scope, err := c.name()
	if err != nil {
		return err
	}
	parts, err := p.connect("release")
	if err != nil {
		return err
	}
	defer parts.close()
	hold, held, err := parts.limiter.HoldFor(p.ctx, c.App, scope)
	if err != nil {
		return err
	}
	if !held {
		if err := requireKnownApp(p, parts, c.App); err != nil {
			return err
		}
	}
	released, err := parts.limiter.Unhold(p.ctx, c.App, scope)
	if err := p.ignorePublishError(released, err); err != nil {
		return err
	}
	p.syncPauses(parts, c.App)
	receipt := releaseReceipt{Released: released, App: c.App, Scope: scope}
	if held && released {
		receipt.Hold = &hold
	}
	if c.JSON {
		return p.printJSON(receipt)
	}
	text := "Nothing was held: " + c.App + " " + scopeText(scope)
	if receipt.Hold != nil {
		text = "Released: " + holdText(hold) + ", by " + hold.By
	}
	_, err = fmt.Fprintln(p.stdout, text)
	return err
}
