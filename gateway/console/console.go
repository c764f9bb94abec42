// Package console serves the pages for operators: how much of today is left, what stands still until
// when, and what became of a task.
//
// A page is one row of [Console.pages], one template in templates/, and its texts, in Chinese and
// English, in texts/. A page reads Redis through [Console.shared], so that any number of viewers
// costs no more than one.
package console

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/gateway/webhook"
	"github.com/wxcourier/wxcourier/internal/apikey"
	"github.com/wxcourier/wxcourier/internal/consent"
	"github.com/wxcourier/wxcourier/internal/hold"
	"github.com/wxcourier/wxcourier/internal/inspect"
	"github.com/wxcourier/wxcourier/internal/signing"
	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/wechat"
)

// App is a configured app.
type App struct {
	ID    string
	Hours inspect.Hours // when its tasks may be sent; nil: at any time
	// Receipts: WeChat pushes receipts of its messages to a callback.
	Receipts bool
	Consent  consent.Mode
}

// Deps are the dependencies of a Console. All but Webhooks and Signed are required.
type Deps struct {
	Redis     redis.UniversalClient
	Tasks     *tasks.Client
	Inspector *tasks.Inspector
	Reader    *inspect.Reader
	Limiter   *ratelimit.Limiter
	Holds     *hold.Store
	Tokens    *wechat.Tokens
	Apps      func() []App // the configured apps, now
	Keys      *apikey.Set
	// Margin is pace.margin, and Retention results.retention, of the configuration.
	Margin    float64
	Retention time.Duration
	// SyncPauses shows the holds of an app in asynq's pauses.
	SyncPauses func(ctx context.Context, app string) error
	AskQuotas  func(ctx context.Context, app string, types []string) error
	// Webhooks are the configured endpoints, now; nil: there are none.
	Webhooks func() []webhook.Endpoint
	Secure   bool // the gateway serves HTTPS
	// Monitor is the path of the asynq web UI, and Start that of the page with the first steps; "": not served.
	Monitor, Start string
	// Signed is called for each request that has a key, for the log; nil: nothing is.
	Signed func(r *http.Request, key *apikey.Key)
	Log    *slog.Logger
}

// Console serves the pages. Create it with New.
type Console struct {
	Deps
	mux   *http.ServeMux
	views *views
	cache *cache

	pastDays  *pastDays  // of the list of failures
	campaigns *campaigns // closed by Close

	secret  *signing.Secret // of sessions and forms
	signIns signInLimit
	forms   []string      // the paths of all forms with a token
	streams chan struct{} // has an element for each stream of events
	drained chan struct{} // closed by Drain
	drain   sync.Once
}

// New creates a Console. It does no I/O.
func New(deps Deps) (*Console, error) {
	if deps.Redis == nil || deps.Apps == nil || deps.Keys == nil {
		return nil, errors.New("console: Deps needs Redis, Apps and Keys")
	}
	c := &Console{
		Deps: deps, mux: http.NewServeMux(), cache: newCache(), pastDays: newPastDays(), secret: signing.New(deps.Redis, sessionKey),
		streams: make(chan struct{}, maxStreams), drained: make(chan struct{}),
	}
	if c.Webhooks == nil {
		c.Webhooks = func() []webhook.Endpoint { return nil }
	}
	c.campaigns = newCampaigns(deps)
	pages := c.pages()
	var err error
	if c.views, err = parseViews(pages); err != nil {
		return nil, err
	}
	for _, p := range pages {
		c.servePage(p)
	}
	c.serveImages()
	c.mux.Handle("GET "+UploadPath+"/{app}/{draft}/report", c.page(page{name: "campaign"}, c.serveReport))
	c.mux.Handle("GET "+reportPath, c.page(page{name: "batch"}, c.serveBatchReport))
	c.serveSignIn()
	c.mux.HandleFunc("GET /static/{file}", c.views.static.serve)
	c.mux.HandleFunc("/", c.serveUnknown)
	return c, nil
}

// ServeHTTP implements http.Handler.
func (c *Console) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mux.ServeHTTP(w, r)
}

// Drain ends the streams of events, now and from now on, and stops the sending of campaigns, which
// another gateway can continue. Call it before the server waits for its requests.
func (c *Console) Drain() {
	c.drain.Do(func() { close(c.drained) })
	c.campaigns.cancel()
}

// Close ends what runs in the background. All requests must have ended.
func (c *Console) Close() { c.campaigns.close() }
