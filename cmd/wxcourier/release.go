package main

import (
	"fmt"

	"github.com/wxcourier/wxcourier/internal/describe"
	"github.com/wxcourier/wxcourier/internal/hold"
)

type releaseCommand struct {
	holdScope
	JSON bool `help:"Print the released hold as JSON."`
}

func (releaseCommand) Help() string {
	return `Ends a hold that "wxcourier hold" or a worker has set. The scope must be the one that status shows: releasing an app does not release its types. Waiting tasks continue at their usual pace. If the cause persists, the worker sets the hold again. Repeating the command is safe.

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
	p.syncPauses(parts, c.App)
	receipt := releaseReceipt{Released: released, App: c.App, Scope: scope}
	if held && released {
		receipt.Hold = &h
	}
	if c.JSON {
		return p.printJSON(receipt)
	}
	text := "Nothing was held: " + c.App + " " + describe.Scope(scope)
	if receipt.Hold != nil {
		text = "Released: " + describe.Hold(h) + ", by " + h.By
	}
	_, err = fmt.Fprintln(p.stdout, text)
	return err
}
