package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/wxcourier/wxcourier/internal/app"
	"github.com/wxcourier/wxcourier/internal/describe"
	"github.com/wxcourier/wxcourier/internal/printable"
	"github.com/wxcourier/wxcourier/internal/suggest"
	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/worker"
)

// holdScope selects what to hold. Type and Template are nil when not given; an empty one is an
// error, since it must not mean the whole app.
type holdScope struct {
	App      string  `required:"" placeholder:"ID" help:"The app."`
	Type     *string `xor:"scope" placeholder:"TYPE" help:"Only this task type."`
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
		if _, ok := tasks.Lookup(*s.Type); !ok {
			return "", usageErrorf("--type: there is no task type %q; %s", *s.Type, typeHint(*s.Type))
		}
		return *s.Type, nil
	case s.Template != nil:
		id := *s.Template
		if id == "" || len(id) > maxTextLen || strings.ContainsFunc(id, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return "", usageErrorf("--template: %q is not a template id; copy it, without spaces, from the template list of the app's console", id)
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
	if best, ok := suggest.Name(typ, types); ok {
		return "did you mean " + best + "?"
	}
	return "the types are " + strings.Join(types, ", ")
}

// connect makes the parts for hold and release, and checks that Redis answers.
func (p *program) connect(command string) (*app.Parts, error) {
	cfg, err := p.needRedis(command)
	if err != nil {
		return nil, err
	}
	return app.Open(p.ctx, cfg, p.logger(), nil)
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

func (p *program) printJSON(v any) error {
	out := printable.NewJSONLines(p.stdout)
	return errors.Join(out.Write(v), out.Flush())
}

// requireKnownApp returns an error for an app that is neither configured nor was ever enqueued
// for: probably a typo.
func requireKnownApp(p *program, parts *app.Parts, app string) error {
	apps, err := parts.Tasks.Apps(p.ctx)
	if err != nil {
		return err
	}
	for _, a := range parts.Config.Apps {
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

// writeHolds prints holds as a table, and below it the errcodes missing in the code table.
func writeHolds(w io.Writer, holds []ratelimit.Hold) {
	writeHoldTable(w, holds)
	for _, h := range holds {
		if h.Reason == worker.ReasonUnlistedCode {
			_, _ = fmt.Fprintf(w, "errcode %d of %s %s has no row in the code table of this version: report it to the maintainers, or add a row to wechat/errcode.go\n",
				h.Code, h.App, describe.Scope(h.Scope))
		}
	}
}

func writeHoldTable(w io.Writer, holds []ratelimit.Hold) {
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
