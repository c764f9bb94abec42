package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/user"
	"strings"
	"time"
	"unicode"

	"github.com/wxcourier/wxcourier/internal/describe"
	"github.com/wxcourier/wxcourier/ratelimit"
)

type holdCommand struct {
	holdScope
	Until  string `placeholder:"TIME" help:"Time at which the hold ends, such as 2026-12-01T08:00:00+08:00. Default: until it is released."`
	Reason string `placeholder:"TEXT" default:"operator" help:"Reason to show in status."`
	JSON   bool   `help:"Print the hold in force, as JSON."`
}

func (holdCommand) Help() string {
	return `Stops an app, one of its task types or one of its templates on all replicas at once. Calls in flight are finished. Tasks of a held app or type wait, and can still be enqueued; tasks of a held template end as rejected, with the reason template_held.

An existing hold is never shortened. Holds are shown by status, in the metrics, and as paused queues in the asynq web UI.

Examples:
    wxcourier hold --app wx0123456789abcdef --reason "campaign stopped by legal"
    wxcourier hold --app wx0123456789abcdef --type send:subscribe --until 2026-12-01T08:00:00+08:00
    wxcourier hold --app wx0123456789abcdef --template pQ3PZ4XHMSKJOGtmAdBKlQ1cMVfLdKDNk8yBdXAMPLE`
}

// holdReceipt is the output of hold --json: the hold in force.
type holdReceipt struct {
	Set bool `json:"set"` // false: a hold that ends no earlier was in force
	ratelimit.Hold
}

// Run sets a hold.
func (c *holdCommand) Run(p *program) error {
	scope, err := c.name()
	if err != nil {
		return err
	}
	until, err := c.until(time.Now())
	if err != nil {
		return err
	}
	if len(c.Reason) > maxTextLen || strings.ContainsFunc(c.Reason, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return usageErrorf("--reason: must be one line of at most %d bytes, without control characters", maxTextLen)
	}
	parts, err := p.connect("hold")
	if err != nil {
		return err
	}
	defer parts.Close()
	if err := requireKnownApp(p, parts, c.App); err != nil {
		return err
	}
	set, err := parts.Limiter.Hold(p.ctx, ratelimit.Hold{
		App: c.App, Scope: scope, Reason: cmp.Or(c.Reason, "operator"), Until: until, By: operator(),
	})
	if err := p.ignorePublishError(set, err); err != nil {
		return err
	}
	hold, held, err := parts.Limiter.HoldFor(p.ctx, c.App, scope)
	switch {
	case err != nil:
		return err
	case !held && !set:
		return fmt.Errorf("not held: %s has passed by the clock of Redis; compare the clocks of this machine and of Redis", c.Until)
	case !held: // ended or released in the meantime
		return errors.New("the hold has already ended, or was released by another operator")
	}
	p.syncPauses(parts, c.App)
	if c.JSON {
		return p.printJSON(holdReceipt{set, hold})
	}
	prefix := "Held: "
	if !set {
		prefix = "Already held: "
	}
	_, err = fmt.Fprintln(p.stdout, prefix+describe.Hold(hold)+", by "+hold.By)
	return err
}

// until returns when the hold ends; zero: only when it is released.
func (c *holdCommand) until(now time.Time) (time.Time, error) {
	if c.Until == "" {
		return time.Time{}, nil
	}
	at, err := time.Parse(time.RFC3339, c.Until)
	if err != nil {
		return time.Time{}, usageErrorf("--until: %q is not a time such as 2026-12-01T08:00:00+08:00", c.Until)
	}
	if !at.After(now) {
		return time.Time{}, usageErrorf("--until: %s has passed; the time is %s", c.Until, now.Format(time.RFC3339))
	}
	return at, nil
}

// operator returns the user of this process as user@host.
func operator() string {
	name := fmt.Sprintf("uid %d", os.Getuid())
	if u, err := user.Current(); err == nil && u.Username != "" {
		name = u.Username
	}
	host, err := os.Hostname()
	if err != nil {
		return name
	}
	return name + "@" + host
}
