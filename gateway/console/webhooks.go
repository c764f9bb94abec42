package console

import (
	"cmp"
	"context"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/wxcourier/wxcourier/gateway/webhook"
	"github.com/wxcourier/wxcourier/internal/apikey"
)

func (c *Console) webhooksPage() page {
	return page{name: "webhooks", path: "/webhooks", nav: true, live: true, load: c.loadWebhooks}
}

func (c *Console) webhookPage() page {
	return page{name: "webhook", path: "/webhooks/{webhook}/{app}", live: true, load: c.loadWebhook}
}

const (
	webhookRows = 50
	letterRows  = 50
)

// webhooksData is the data of the page of the endpoints.
type webhooksData struct {
	None  bool // no endpoint is configured
	Rows  []webhookRow
	Total int
	Pager pager
}

// webhookRow is an endpoint for an app.
type webhookRow struct {
	webhook.Status
	URL   string
	Tone  tone
	Fails string // why the last call failed; "": it did not
}

// webhookURL returns the path of the page of an endpoint for an app.
func webhookURL(name, app string) string { return "/webhooks/" + url.PathEscape(name) + "/" + app }

// readWebhooks reads the state of all endpoints for all apps.
func (c *Console) readWebhooks(ctx context.Context) ([]webhook.Status, error) {
	return shared(ctx, c, "webhooks", func(ctx context.Context) ([]webhook.Status, error) {
		return webhook.List(ctx, c.Redis, c.Webhooks())
	})
}

// loadWebhooks lists the endpoints for the apps of the key: first those with trouble.
func (c *Console) loadWebhooks(r *request) (any, error) {
	all, err := c.readWebhooks(r.Context())
	if err != nil {
		return nil, err
	}
	data := webhooksData{None: len(c.Webhooks()) == 0}
	var rows []webhookRow
	for _, s := range all {
		if r.key.AllowsApp(s.App) {
			rows = append(rows, newWebhookRow(r, s))
		}
	}
	slices.SortStableFunc(rows, func(a, b webhookRow) int {
		return cmp.Or(cmp.Compare(trouble(a), trouble(b)), cmp.Compare(a.Webhook, b.Webhook), cmp.Compare(a.App, b.App))
	})
	data.Total = len(rows)
	at, _ := strconv.Atoi(r.URL.Query().Get("from")) // else the first page
	at = max(0, min(at, len(rows)))
	data.Rows = rows[at:min(at+webhookRows, len(rows))]
	if at > 0 {
		data.Pager.First = "/webhooks"
	}
	if at+webhookRows < len(rows) {
		data.Pager.Next = "/webhooks?from=" + strconv.Itoa(at+webhookRows)
	}
	return data, nil
}

func newWebhookRow(r *request, s webhook.Status) webhookRow {
	row := webhookRow{Status: s, URL: webhookURL(s.Webhook, s.App)}
	if s.Error != "" {
		row.Fails = r.saysOr("webhook.error."+string(s.Error), string(s.Error))
	}
	row.Tone = map[webhook.State]tone{
		webhook.StateCaughtUp: good, webhook.StateDelivering: info, webhook.StateRetrying: warn, webhook.StateDisabled: bad, webhook.StateNotStarted: idle,
	}[s.State]
	return row
}

// trouble orders rows: what needs somebody comes first.
func trouble(r webhookRow) int {
	switch {
	case r.State == webhook.StateDisabled:
		return 0
	case r.State == webhook.StateRetrying:
		return 1
	case r.Dead > 0:
		return 2
	case r.State == webhook.StateDelivering:
		return 3
	}
	return 4
}

// webhookData is the data of the page of an endpoint for an app.
type webhookData struct {
	webhookRow
	Host    string // to which results are sent; the rest of the address may be a secret
	Types   []string
	Letters []deadLetter
	Pager   pager
	Spans   []time.Duration // from which results can be sent again
}

// deadLetter is a row of the dead letters.
type deadLetter struct {
	webhook.DeadLetter
	Why string
	URL string
}

// findWebhook returns the endpoint and its state for the app that a path names.
func (c *Console) findWebhook(r *request, scope apikey.Scope) (e webhook.Endpoint, s webhook.Status, err error) {
	name, app := r.PathValue("webhook"), r.PathValue("app")
	if err := r.require(scope, app); err != nil {
		return e, s, err
	}
	all, err := c.readWebhooks(r.Context())
	if err != nil {
		return e, s, err
	}
	endpoints := c.Webhooks()
	i := slices.IndexFunc(endpoints, func(e webhook.Endpoint) bool { return e.Name == name })
	k := slices.IndexFunc(all, func(s webhook.Status) bool { return s.Webhook == name && s.App == app })
	if i < 0 || k < 0 {
		return e, s, faultf(http.StatusNotFound, "webhook.missing")
	}
	return endpoints[i], all[k], nil
}

// loadWebhook shows an endpoint for an app, with its dead letters.
func (c *Console) loadWebhook(r *request) (any, error) {
	e, s, err := c.findWebhook(r, apikey.Read)
	if err != nil {
		return nil, err
	}
	data := webhookData{webhookRow: newWebhookRow(r, s), Host: hostOf(e.URL), Types: e.Types, Spans: replaySpans()}
	after := r.URL.Query().Get("after")
	if !letterID.MatchString(after) {
		after = "" // the first page
	}
	letters, err := shared(r.Context(), c, "dead letters "+e.Name+" "+s.App+" "+after, func(ctx context.Context) ([]webhook.DeadLetter, error) {
		return webhook.DeadLetters(ctx, c.Redis, e, s.App, after, letterRows)
	})
	if err != nil {
		return nil, err
	}
	for _, l := range letters {
		row := deadLetter{DeadLetter: l, Why: r.saysOr("webhook.error."+l.Reason, l.Reason)}
		if l.Task != "" {
			row.URL = "/tasks/" + s.App + "/" + url.PathEscape(l.Task)
		}
		data.Letters = append(data.Letters, row)
	}
	if after != "" {
		data.Pager.First = data.URL
	}
	if len(letters) == letterRows {
		data.Pager.Next = data.URL + "?" + url.Values{"after": {letters[len(letters)-1].ID}}.Encode()
	}
	return data, nil
}

// letterID is the form of the id of a dead letter.
var letterID = regexp.MustCompile(`^[0-9]{1,19}-[0-9]{1,19}$`)

// hostOf returns the host of an address.
func hostOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return strings.ToLower(u.Host)
}

// replaySpans are the durations that the form for sending results again offers.
func replaySpans() []time.Duration {
	return []time.Duration{15 * time.Minute, time.Hour, 4 * time.Hour, 12 * time.Hour, 24 * time.Hour}
}
