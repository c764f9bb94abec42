package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/wxcourier/wxcourier/internal/app"
	"github.com/wxcourier/wxcourier/internal/describe"
	"github.com/wxcourier/wxcourier/internal/printable"
	"github.com/wxcourier/wxcourier/internal/templates"
)

type templatesCommand struct {
	App     []string `placeholder:"ID" help:"Only these apps. Default: all configured apps."`
	Refresh bool     `help:"Ask WeChat for the templates now. WeChat's limit of these calls is low."`
	JSON    bool     `help:"Print JSON, one line per app."`
}

func (templatesCommand) Help() string {
	return `Lists the message templates of apps, with their fields, the kinds of the fields and the values that they take, as WeChat last listed them. A mini program has templates for subscribe messages; an official account may also have those for template messages.

A worker reads them from WeChat every six hours where templates.check or templates.fix of the app is set, and soon after a message did not fit. --refresh reads them now, whatever is configured.

Examples:
    wxcourier templates
    wxcourier templates --app wx0123456789abcdef --refresh
    wxcourier templates --json | jq '.templates[].id'`
}

// Run lists the templates of apps.
func (c *templatesCommand) Run(p *program) error {
	if err := validApps(c.App); err != nil {
		return err
	}
	parts, err := p.connect("templates")
	if err != nil {
		return err
	}
	defer parts.Close()
	apps := c.App
	for _, id := range apps {
		if err := requireKnownApp(p, parts, id); err != nil {
			return err
		}
	}
	if len(apps) == 0 {
		for _, configured := range parts.Current().Apps {
			apps = append(apps, configured.ID)
		}
	}
	if len(apps) == 0 {
		return usageErrorf("no app is configured in %s; --app names one", p.configName())
	}
	var failed []error
	for _, id := range apps {
		known, err := c.read(p, parts, id)
		if err != nil {
			return fmt.Errorf("%s: %w", id, err)
		}
		if c.JSON {
			err = p.printJSON(listedTemplates{id, known})
		} else {
			err = writeTemplates(p.stdout, id, known, time.Now())
		}
		if err != nil {
			return err
		}
		if c.Refresh && !anyList(known) {
			failed = append(failed, fmt.Errorf("WeChat gave no list of the templates of %s", id))
		}
	}
	return errors.Join(failed...)
}

// listedTemplates is the output of templates --json.
type listedTemplates struct {
	App string `json:"app"`
	*templates.Registry
}

// read returns what is known of an app's templates, an empty registry for nothing.
func (c *templatesCommand) read(p *program, parts *app.Parts, id string) (known *templates.Registry, err error) {
	if c.Refresh {
		known, err = parts.RefreshTemplates(p.ctx, id)
	} else {
		known, err = parts.Templates(p.ctx, id)
	}
	if known == nil {
		known = &templates.Registry{Templates: []templates.Template{}}
	}
	return known, err
}

// anyList reports whether the last question for one of the lists was answered with it.
func anyList(known *templates.Registry) bool {
	for _, source := range templates.Sources() {
		if known.Has(source) && known.Lists[source].Error == "" {
			return true
		}
	}
	return false
}

// writeTemplates prints the templates of an app.
func writeTemplates(w io.Writer, id string, known *templates.Registry, now time.Time) error {
	mode := "check " + string(cmp.Or(known.Check, templates.CheckOff))
	if known.Fix {
		mode += ", fix"
	}
	_, _ = fmt.Fprintf(w, "%s: %s, %s\n", id, templatesAge(known, now), mode)
	for _, source := range templates.Sources() {
		if list := known.Lists[source]; list != nil && list.Error != "" && (list.Refused == 0 || !anyList(known)) {
			_, _ = fmt.Fprintf(w, "  WeChat returned no list for %s at %s: %s\n", sourceText(source), list.AskedAt.Local().Format(time.DateTime), printable.Escape(list.Error))
		}
	}
	for _, t := range known.Templates {
		_, _ = fmt.Fprintf(w, "\n  %s  %s (%s)\n", printable.Escape(t.ID), printable.Escape(t.Title), templateKind(t))
		table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		for _, f := range t.Fields {
			values := ""
			if len(f.Values) > 0 {
				values = "one of " + strings.Join(f.Values, ", ")
			}
			_, _ = fmt.Fprintf(table, "    %s\t%s\t%s\t%s\n", printable.Escape(f.Name), printable.Escape(cmp.Or(f.Kind, "-")), printable.Escape(cmp.Or(f.Label, "-")), printable.Escape(values))
		}
		if err := table.Flush(); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintln(w)
	return err
}

// templatesAge says how many templates there are, and how old the list is.
func templatesAge(known *templates.Registry, now time.Time) string {
	if known.FetchedAt.IsZero() {
		return "no list of templates yet (--refresh asks WeChat)"
	}
	return fmt.Sprintf("%s, as of %s ago", describe.Count(len(known.Templates), "template"), now.Sub(known.FetchedAt).Truncate(time.Second))
}

// sourceText names a list.
func sourceText(source templates.Source) string {
	if source == templates.Account {
		return "template messages"
	}
	return "subscribe messages"
}

// templateKind names what a template is for.
func templateKind(t templates.Template) string {
	switch {
	case t.Source == templates.Account:
		return "template message"
	case t.Kind == templates.OneTime:
		return "one-time subscription"
	case t.Kind == templates.LongTerm:
		return "long-term subscription"
	}
	return "subscribe message"
}
