package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/wxcourier/wxcourier/gateway/webhook"
	"github.com/wxcourier/wxcourier/internal/app"
	"github.com/wxcourier/wxcourier/internal/audit"
	"github.com/wxcourier/wxcourier/internal/describe"
	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/internal/printable"
	"github.com/wxcourier/wxcourier/internal/suggest"
	"github.com/wxcourier/wxcourier/internal/summary"
	"github.com/wxcourier/wxcourier/tasks"
)

type webhooksCommand struct {
	List   webhooksListCommand   `cmd:"" default:"withargs" help:"List the endpoints: lag, state and dead letters."`
	Test   webhooksTestCommand   `cmd:"" help:"Send a sample to an endpoint and show the status of its answer."`
	Replay webhooksReplayCommand `cmd:"" help:"Send dead letters, or all results since a time, again."`
	Enable webhooksEnableCommand `cmd:"" help:"Let an endpoint continue that answered 410, and repeat failed calls now."`
}

// Help is printed by `webhooks --help`.
func (webhooksCommand) Help() string {
	return `Endpoints get the results of tasks from wxcourier gateway; they are configured under webhooks. A failed call is repeated after 5 s, 30 s, 2, 10 and 30 min, 1, 2, 4, 8 and 8 h, and then every 8 h. A result that an endpoint refuses becomes a dead letter.

Examples:
    wxcourier webhooks
    wxcourier webhooks test crm
    wxcourier webhooks replay crm --dead
    wxcourier webhooks replay crm --since 2h
    wxcourier webhooks enable crm`
}

type webhooksListCommand struct {
	JSON bool `help:"Print JSON."`
}

// Run lists the endpoints.
func (c *webhooksListCommand) Run(p *program) error {
	parts, err := p.connect("webhooks")
	if err != nil {
		return err
	}
	defer parts.Close()
	all, err := webhook.List(p.ctx, parts.Redis, parts.Config.Webhooks)
	if err != nil {
		return err
	}
	if c.JSON {
		encoder := json.NewEncoder(printable.JSONWriter(p.stdout))
		encoder.SetIndent("", "  ")
		encoder.SetEscapeHTML(false)
		return encoder.Encode(all)
	}
	if len(parts.Config.Webhooks) == 0 {
		_, err = fmt.Fprintf(p.stdout, "No webhook is configured. Add one to webhooks in %s.\n", p.configName())
		return err
	}
	writeWebhooks(p.stdout, all)
	return nil
}

// writeWebhooks prints the state of each endpoint and app as a table.
func writeWebhooks(w io.Writer, all []webhook.Status) {
	if len(all) == 0 {
		_, _ = fmt.Fprintln(w, "No app has had a task.")
		return
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	defer func() { _ = table.Flush() }()
	_, _ = fmt.Fprintln(table, "WEBHOOK\tAPP\tLAG\tAGE\tSTATE\tDEAD")
	for _, s := range all {
		age := "-"
		if s.Lag > 0 {
			age = describe.Coarse(time.Duration(s.LagSeconds * float64(time.Second)))
		}
		_, _ = fmt.Fprintln(table, strings.Join([]string{
			s.Webhook, s.App, summary.Number(int(s.Lag)), age, webhookState(s), summary.Number(int(s.Dead)),
		}, "\t"))
	}
}

// webhookState returns the cell STATE.
func webhookState(s webhook.Status) string {
	switch s.State {
	case webhook.StateRetrying:
		text := "failing since " + s.Since.Local().Format(time.DateTime) + ": " + string(s.Error)
		if s.HTTPStatus != 0 {
			text += " (" + strconv.Itoa(s.HTTPStatus) + ")"
		}
		if !s.Next.IsZero() {
			text += ", next attempt " + s.Next.Local().Format(time.DateTime)
		}
		return text
	case webhook.StateDisabled:
		return "disabled: it answered 410"
	case webhook.StateNotStarted:
		return "no gateway has served it yet"
	case webhook.StateDelivering:
		return "delivering"
	case webhook.StateCaughtUp:
		return "caught up"
	}
	return string(s.State)
}

// webhookName selects an endpoint of the configuration.
type webhookName struct {
	Name string `arg:"" placeholder:"NAME" help:"The endpoint's name in the configuration."`
}

func (n webhookName) find(endpoints []webhook.Endpoint) (webhook.Endpoint, error) {
	var names []string
	for _, e := range endpoints {
		if e.Name == n.Name {
			return e, nil
		}
		names = append(names, e.Name)
	}
	hint := "none is configured"
	if best, ok := suggest.Name(n.Name, names); ok {
		hint = "did you mean " + best + "?"
	} else if len(names) > 0 {
		hint = "they are " + strings.Join(names, ", ")
	}
	return webhook.Endpoint{}, usageErrorf("webhooks: there is no endpoint %q in the configuration; %s", n.Name, hint)
}

// open makes the parts and finds the endpoint; the caller closes the parts.
func (n webhookName) open(p *program) (*app.Parts, webhook.Endpoint, error) {
	cfg, err := p.needRedis("webhooks")
	if err != nil {
		return nil, webhook.Endpoint{}, err
	}
	e, err := n.find(cfg.Webhooks)
	if err != nil {
		return nil, e, err
	}
	parts, err := app.Open(p.ctx, cfg, p.logger(), nil)
	return parts, e, err
}

type webhooksTestCommand struct {
	webhookName
	JSON bool `help:"Print JSON."`
}

// Run sends a sample.
func (c *webhooksTestCommand) Run(p *program) error {
	cfg, err := p.configuration()
	if err != nil {
		return err
	}
	e, err := c.find(cfg.Webhooks)
	if err != nil {
		return err
	}
	answer, err := webhook.Test(p.ctx, e)
	if err != nil {
		return err
	}
	if c.JSON {
		err = p.printJSON(answer)
	} else {
		_, err = fmt.Fprintln(p.stdout, e.Name+": "+webhookAnswer(answer))
	}
	if err == nil && answer.Class != webhook.ClassOK {
		err = errors.New("the endpoint did not accept the sample")
	}
	return err
}

// webhookAnswer describes the answer to a call.
func webhookAnswer(a webhook.Answer) string {
	if a.HTTPStatus != 0 {
		return strconv.Itoa(a.HTTPStatus) + " " + string(a.Class)
	}
	return "no answer: " + string(a.Class) + ": " + printable.Escape(a.Detail)
}

type webhooksReplayCommand struct {
	webhookName
	App   []string `placeholder:"ID" help:"Only these apps. Default: all of the endpoint."`
	Dead  bool     `xor:"what" required:"" help:"Send the dead letters, from this process."`
	Since string   `xor:"what" required:"" placeholder:"TIME" help:"Let the gateways send all results since a time (RFC 3339) or for a duration (2h), and go on from there. A later time than that of the lag skips results."`
}

// Run sends results again.
func (c *webhooksReplayCommand) Run(p *program) error {
	var since time.Time
	if !c.Dead {
		var err error
		if since, err = sinceTime(c.Since, time.Now()); err != nil {
			return err
		}
	}
	parts, e, err := c.open(p)
	if err != nil {
		return err
	}
	defer parts.Close()
	apps, err := c.apps(p, parts, e)
	if err != nil {
		return err
	}
	for _, id := range apps {
		if c.Dead {
			err = resendDead(p, parts, e, id)
		} else {
			err = rewind(p, parts, e, id, since)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// apps returns the apps whose results are sent again.
func (c *webhooksReplayCommand) apps(p *program, parts *app.Parts, e webhook.Endpoint) ([]string, error) {
	for _, id := range c.App {
		if !tasks.ValidApp(id) || !e.WantsApp(id) {
			return nil, usageErrorf("--app: %q is not an app of the endpoint %s", id, e.Name)
		}
	}
	all, err := webhook.List(p.ctx, parts.Redis, []webhook.Endpoint{e})
	if err != nil {
		return nil, err
	}
	var apps []string
	for _, s := range all {
		if (len(c.App) == 0 || slices.Contains(c.App, s.App)) && (s.State != webhook.StateNotStarted) {
			apps = append(apps, s.App)
		}
	}
	if len(apps) == 0 {
		return nil, errors.New("no gateway has served the endpoint " + e.Name + " for such an app yet")
	}
	return apps, nil
}

func resendDead(p *program, parts *app.Parts, e webhook.Endpoint, id string) error {
	n, err := webhook.ResendDead(p.ctx, parts.Redis, e, id)
	if n.Delivered > 0 {
		p.audit(parts.Redis, audit.Entry{Action: audit.Webhook, App: id, Target: e.Name, Count: int64(n.Delivered), Note: "dead letters were sent again"})
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(p.stdout, "%s: %s delivered, %d refused again\n", id, describe.Count(n.Delivered, "dead letter"), n.Refused)
	if err == nil && n.Left {
		err = fmt.Errorf("the rest was not sent: %s", webhookAnswer(n.Last))
	}
	return err
}

func rewind(p *program, parts *app.Parts, e webhook.Endpoint, id string, since time.Time) error {
	n, err := webhook.Rewind(p.ctx, parts.Redis, e, id, since)
	if errors.Is(err, ledger.ErrNoReader) {
		return nil // forgotten in the meantime
	}
	if err != nil {
		return err
	}
	p.audit(parts.Redis, audit.Entry{
		Action: audit.Webhook, App: id, Target: e.Name, Count: n, Note: "results are sent again from " + since.UTC().Format(time.RFC3339),
	})
	_, err = fmt.Fprintf(p.stdout, "%s: the gateways send %s from %s on\n", id, describe.Count(int(n), "result"), since.Local().Format(time.RFC3339))
	return err
}

type webhooksEnableCommand struct {
	webhookName
}

// Run enables an endpoint.
func (c *webhooksEnableCommand) Run(p *program) error {
	parts, e, err := c.open(p)
	if err != nil {
		return err
	}
	defer parts.Close()
	if err := webhook.Enable(p.ctx, parts.Redis, e); err != nil {
		return err
	}
	p.audit(parts.Redis, audit.Entry{Action: audit.Webhook, Target: e.Name, Note: "enabled"})
	_, err = fmt.Fprintf(p.stdout, "%s is enabled; the gateways call it within seconds.\n", e.Name)
	return err
}
