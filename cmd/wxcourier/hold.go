package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/wxcourier/wxcourier/internal/nearest"
	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/worker"
)

// holdScope names what is held. Type and Template are nil when they were not given: an
// empty one is a mistake, and must not mean the whole app.
type holdScope struct {
	App      string  `required:"" placeholder:"ID" help:"The app."`
	Type     *string `xor:"scope" placeholder:"TYPE" help:"Only this task type."`
	Template *string `xor:"scope" placeholder:"ID" help:"Only this message template."`
}

// longestWord bounds a template's id and a reason, in bytes.
const longestWord = 200

// name is the scope as hold records have it.
func (s holdScope) name() (string, error) {
	if !tasks.ValidApp(s.App) {
		return "", misuse(`--app: %q is not an app id: "wx" and 16 of the characters 0-9 and a-f`, s.App)
	}
	switch {
	case s.Type != nil:
		if _, ok := tasks.Lookup(*s.Type); !ok {
			return "", misuse("--type: there is no task type %q; %s", *s.Type, typeHint(*s.Type))
		}
		return *s.Type, nil
	case s.Template != nil:
		id := *s.Template
		if id == "" || len(id) > longestWord || strings.ContainsFunc(id, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return "", misuse("--template: %q is not a template's id; copy it from the template list of the app's console, with no spaces", id)
		}
		return ratelimit.TemplateScope(id), nil
	}
	return ratelimit.WholeApp, nil
}

func typeHint(typ string) string {
	var types []string
	for _, spec := range tasks.Catalog() {
		types = append(types, spec.Type)
	}
	if best, ok := nearest.Name(typ, types); ok {
		return "did you mean " + best + "?"
	}
	return "there are " + strings.Join(types, ", ")
}

type holdCommand struct {
	holdScope
	Until  string `placeholder:"TIME" help:"When it ends by itself, such as 2026-12-01T08:00:00+08:00. Default: when it is released."`
	Reason string `placeholder:"TEXT" default:"operator" help:"Why, for people: shown by status."`
	JSON   bool   `help:"Print the hold in force, as JSON."`
}

func (holdCommand) Help() string {
	return `Stops an app, one of its task types or one of its templates, for all replicas at once. What is being sent is finished. Tasks of a held app or type wait, and can still be enqueued; those of a held template end as rejected, with the reason template_held.

A hold that ends later stays as it is. It is shown by status, in the metrics, and as a pause of its queues in the asynq web UI.

Examples:
    wxcourier hold --app wx0123456789abcdef --reason "campaign stopped by legal"
    wxcourier hold --app wx0123456789abcdef --type send:subscribe --until 2026-12-01T08:00:00+08:00
    wxcourier hold --app wx0123456789abcdef --template pQ3PZ4XHMSKJOGtmAdBKlQ1cMVfLdKDNk8yBdXAMPLE`
}

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

// holdReceipt is what hold prints with --json: the hold in force.
type holdReceipt struct {
	Set bool `json:"set"` // false: it was in force already, and ends no earlier
	ratelimit.Hold
}

// releaseReceipt is what release prints with --json.
type releaseReceipt struct {
	Released bool            `json:"released"` // false: nothing was held
	App      string          `json:"app"`
	Scope    string          `json:"scope"`
	Hold     *ratelimit.Hold `json:"hold,omitempty"` // what was released
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
	if len(c.Reason) > longestWord || strings.ContainsFunc(c.Reason, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return misuse("--reason: it must be one line of at most %d bytes, without control characters", longestWord)
	}
	parts, err := p.holdParts("hold")
	if err != nil {
		return err
	}
	defer parts.close()
	if err := knownAnywhere(p, parts, c.App); err != nil {
		return err
	}
	set, err := parts.limiter.Hold(p.ctx, ratelimit.Hold{
		App: c.App, Scope: scope, Reason: cmp.Or(c.Reason, "operator"), Until: until, By: operator(),
	})
	if err := p.unheard(set, err); err != nil {
		return err
	}
	hold, held, err := parts.limiter.HoldFor(p.ctx, c.App, scope)
	switch {
	case err != nil:
		return err
	case !held && !set:
		return fmt.Errorf("nothing is held: by Redis' clock %s has passed; compare the clock of this machine with it", c.Until)
	case !held: // it has ended or was released meanwhile
		return errors.New("the hold has ended already, or was released by somebody else")
	}
	p.mirror(parts, c.App)
	if c.JSON {
		return p.printJSON(holdReceipt{set, hold})
	}
	word := "Held: "
	if !set {
		word = "Already held: "
	}
	_, err = fmt.Fprintln(p.stdout, word+holdText(hold)+", by "+hold.By)
	return err
}

// until is when the hold ends; zero: when it is released.
func (c *holdCommand) until(now time.Time) (time.Time, error) {
	if c.Until == "" {
		return time.Time{}, nil
	}
	at, err := time.Parse(time.RFC3339, c.Until)
	if err != nil {
		return time.Time{}, misuse("--until: %q is not a time such as 2026-12-01T08:00:00+08:00", c.Until)
	}
	if !at.After(now) {
		return time.Time{}, misuse("--until: %s has passed; it is %s now", c.Until, now.Format(time.RFC3339))
	}
	return at, nil
}

// Run lifts a hold.
func (c *releaseCommand) Run(p *program) error {
	scope, err := c.name()
	if err != nil {
		return err
	}
	parts, err := p.holdParts("release")
	if err != nil {
		return err
	}
	defer parts.close()
	hold, held, err := parts.limiter.HoldFor(p.ctx, c.App, scope)
	if err != nil {
		return err
	}
	if !held {
		if err := knownAnywhere(p, parts, c.App); err != nil {
			return err
		}
	}
	released, err := parts.limiter.Unhold(p.ctx, c.App, scope)
	if err := p.unheard(released, err); err != nil {
		return err
	}
	p.mirror(parts, c.App)
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

// holdParts joins what hold and release need.
func (p *program) holdParts(command string) (*parts, error) {
	cfg, err := p.needRedis(command)
	if err != nil {
		return nil, err
	}
	parts, err := join(cfg, p.logger(), configured(cfg.Apps))
	if err != nil {
		return nil, err
	}
	if err := reach(p.ctx, cfg.Redis, parts.rdb); err != nil {
		parts.close()
		return nil, err
	}
	return parts, nil
}

// unheard passes an error on, unless only the message to the replicas failed.
func (p *program) unheard(done bool, err error) error {
	if err != nil && done {
		p.say("note: the workers could not be told at once; they see it within some seconds (%v)", err)
		return nil
	}
	return err
}

// mirror shows the app's holds in asynq's queues. Where it fails, the workers do it.
func (p *program) mirror(parts *parts, app string) {
	ctx, cancel := context.WithTimeout(p.ctx, redisPatience)
	defer cancel()
	holds, err := parts.limiter.Holds(ctx, app)
	if err == nil {
		err = worker.Mirror(ctx, parts.rdb, []string{app}, holds)
	}
	if err != nil {
		p.say("note: the asynq web UI does not show it until a worker runs (%v)", err)
	}
}

func (p *program) printJSON(v any) error {
	out := newJSONLines(p.stdout)
	return errors.Join(out.write(v), out.flush())
}

// knownAnywhere refuses an app that nobody has configured or enqueued for: a slip of the
// hand that would hold nothing.
func knownAnywhere(p *program, parts *parts, app string) error {
	apps, err := parts.client.Apps(p.ctx)
	if err != nil {
		return err
	}
	for _, a := range parts.cfg.Apps {
		apps = append(apps, a.ID)
	}
	if slices.Contains(apps, app) {
		return nil
	}
	slices.Sort(apps)
	hint := "no app is known at all; add it to apps in " + p.where() + ", or set redis.addrs to the Redis of its workers"
	if best, ok := nearest.Name(app, apps); ok {
		hint = "did you mean " + best + "?"
	} else if apps = slices.Compact(apps); len(apps) > 0 {
		hint = "there are " + strings.Join(apps[:min(len(apps), 20)], ", ")
	}
	return fmt.Errorf("--app: %s is not configured here, and nothing was ever enqueued for it; %s", app, hint)
}

// operator is who runs the program, as user@host.
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
