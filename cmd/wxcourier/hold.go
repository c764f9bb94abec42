package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/user"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/wxcourier/wxcourier/gateway/proxy"
	"github.com/wxcourier/wxcourier/internal/app"
	"github.com/wxcourier/wxcourier/internal/audit"
	"github.com/wxcourier/wxcourier/internal/describe"
	"github.com/wxcourier/wxcourier/internal/hold"
	"github.com/wxcourier/wxcourier/internal/suggest"
	"github.com/wxcourier/wxcourier/tasks"
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
	hold.Hold
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
	set, err := parts.Holds.Set(p.ctx, hold.Hold{
		App: c.App, Scope: scope, Reason: cmp.Or(c.Reason, "operator"), Until: until, By: operator(),
	})
	if err := p.ignorePublishError(set, err); err != nil {
		return err
	}
	if set {
		p.audit(parts.Redis, audit.Entry{Action: audit.Hold, App: c.App, Target: scope, Note: audit.HoldNote(cmp.Or(c.Reason, "operator"), until)})
	}
	h, held, err := parts.Holds.Get(p.ctx, c.App, scope)
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
		return p.printJSON(holdReceipt{set, h})
	}
	prefix := "Held: "
	if !set {
		prefix = "Already held: "
	}
	_, err = fmt.Fprintln(p.stdout, prefix+describe.Hold(h)+", by "+h.By)
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

// holdScope selects what to hold. Type and Template are nil when not given; an empty one is an
// error, since it must not mean the whole app.
type holdScope struct {
	App      string  `required:"" placeholder:"ID" help:"The app."`
	Type     *string `xor:"scope" placeholder:"TYPE" help:"Only this task type, or calls of this path of WeChat's that has none."`
	Template *string `xor:"scope" placeholder:"ID" help:"Only this message template."`
}

// maxTextLen is the maximum length of a template id and of a reason, in bytes.
const maxTextLen = 200

// name returns the scope in the form of hold records.
func (s holdScope) name() (string, error) {
	if !tasks.ValidApp(s.App) {
		return "", usageErrorf(`--app: %q is not an app id: "wx" and 16 of the characters 0-9 and a-f`, s.App)
	}
	switch {
	case s.Type != nil:
		if _, ok := tasks.Lookup(*s.Type); !ok && !proxy.HasLane(*s.Type) {
			return "", usageErrorf("--type: there is no task type %q; %s", *s.Type, typeHint(*s.Type))
		}
		return *s.Type, nil
	case s.Template != nil:
		id := *s.Template
		if id == "" || len(id) > maxTextLen || strings.ContainsFunc(id, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return "", usageErrorf("--template: %q is not a template id; copy it, without spaces, from the template list of the app's console", id)
		}
		return hold.TemplateScope(id), nil
	}
	return hold.WholeApp, nil
}

func typeHint(typ string) string {
	types := tasks.Types()
	if best, ok := suggest.Name(typ, types); ok {
		return "did you mean " + best + "?"
	}
	return "the types are " + strings.Join(types, ", ")
}

// ignorePublishError returns err, unless the change was made (done) and only the message to the
// replicas failed; that is printed as a note.
func (p *program) ignorePublishError(done bool, err error) error {
	if err != nil && done {
		p.notef("note: the workers could not be notified; they see the change within some seconds (%v)", err)
		return nil
	}
	return err
}

// syncPauses pauses asynq's queues according to the app's holds. If it fails, the workers do it
// later.
func (p *program) syncPauses(parts *app.Parts, app string) {
	if err := parts.SyncPauses(p.ctx, app); err != nil {
		p.notef("note: the asynq web UI shows this only once a worker runs (%v)", err)
	}
}

// requireKnownApp returns an error for an app that is neither configured nor was ever enqueued
// for: probably a typo.
func requireKnownApp(p *program, parts *app.Parts, app string) error {
	apps, err := parts.Inspector.Apps(p.ctx)
	if err != nil {
		return err
	}
	for _, a := range parts.Current().Apps {
		apps = append(apps, a.ID)
	}
	if slices.Contains(apps, app) {
		return nil
	}
	slices.Sort(apps)
	hint := "no app is known; add it to apps in " + p.configName() + ", or set redis.addrs to the Redis of its workers"
	if best, ok := suggest.Name(app, apps); ok {
		hint = "did you mean " + best + "?"
	} else if apps = slices.Compact(apps); len(apps) > 0 {
		hint = "the known apps are " + strings.Join(apps[:min(len(apps), 20)], ", ")
	}
	return fmt.Errorf("--app: %s is not configured here, and nothing was ever enqueued for it; %s", app, hint)
}
