// Package monitor serves asynqmon, the asynq web UI, at /monitor.
//
// asynqmon has no sign-in, loads fonts from another host, runs inline scripts, and sends a megabyte
// of script uncompressed with every visit. Package monitor passes its API on by the scopes of the
// request's key, and serves its page and its files itself: under a Content-Security-Policy without
// 'unsafe-inline', with a bar above the page that leads back to the console and to an explanation of
// its buttons, compressed once, and cached by the browser. What is changed in it is recorded.
package monitor

import (
	"compress/gzip"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"path"
	"strings"
	"sync"

	"github.com/hibiken/asynqmon"
	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/apikey"
	"github.com/wxcourier/wxcourier/internal/problem"
)

// Root is the path of the first page. All others are below it.
const Root = "/monitor"

const (
	apiPath  = Root + "/api/"
	helpPath = Root + "/help"
	cssPath  = Root + "/wxcourier.css"
)

// Config configures a Monitor.
type Config struct {
	// Full lets keys with the scope operate change something. Default: no key may.
	Full bool
}

// Deps are the dependencies of a Monitor. All are required.
type Deps struct {
	Redis    redis.UniversalClient        // where changes are recorded
	NewRedis func() redis.UniversalClient // makes clients that the Monitor closes
	Log      *slog.Logger
}

// Monitor is the asynq web UI, for keys that may read all apps: it cannot be limited to some. It is
// a http.Handler of requests that have their key in the context, see apikey.NewContext. Create it
// with New.
type Monitor struct {
	deps   Deps
	read   *ui
	full   *ui // for keys that may operate; nil: no key may change anything
	assets assets
	gzip   sync.Pool // of *gzip.Writer
}

// ui is asynqmon as one kind of key sees it.
type ui struct {
	handler *asynqmon.HTTPHandler
	index   func() (*index, error) // made when it is first asked for
}

// New creates a Monitor. It does no I/O.
func New(cfg Config, deps Deps) *Monitor {
	m := &Monitor{deps: deps}
	m.gzip.New = func() any { return gzip.NewWriter(io.Discard) }
	m.read = m.newUI(true)
	m.assets.source = m.read.handler
	if cfg.Full {
		m.full = m.newUI(false)
	}
	return m
}

func (m *Monitor) newUI(readOnly bool) *ui {
	u := &ui{handler: asynqmon.New(asynqmon.Options{
		RootPath: Root, RedisConnOpt: redisMaker(m.deps.NewRedis), ReadOnly: readOnly,
		PayloadFormatter: asynqmon.PayloadFormatterFunc(text), ResultFormatter: asynqmon.ResultFormatterFunc(text),
	})}
	u.index = sync.OnceValues(func() (*index, error) { return newIndex(u.handler, &m.assets, !readOnly) })
	return u
}

// text shows a payload or a result, which are JSON, as it is. asynqmon's own formatter shows none of a
// text with a joined emoji: it takes the joiner for not printable.
func text(_ string, data []byte) string {
	return strings.ToValidUTF8(string(data), "\uFFFD")
}

// ServeHTTP implements http.Handler.
func (m *Monitor) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Referrer-Policy", "no-referrer")
	w.Header().Set("Content-Security-Policy", dataPolicy)
	key := apikey.FromContext(r.Context())
	if key == nil {
		panic("monitor: a request without a key") // the handler is not behind the authentication
	}
	changes := r.Method != http.MethodGet && r.Method != http.MethodHead
	name := path.Clean(r.URL.Path)
	if cause := m.refusal(key, changes); cause != nil {
		cause.serve(w, r)
		return
	}
	u := m.read
	if m.full != nil && key.Allows(apikey.Operate) {
		u = m.full
	}
	switch {
	case strings.HasPrefix(r.URL.Path, apiPath):
		m.serveAPI(w, r, u, changes)
	case changes:
		w.Header().Set("Allow", "GET, HEAD")
		problem.New(http.StatusMethodNotAllowed, "pages are only read").Write(w)
	case name == helpPath:
		serveHelp(w, r, u == m.full)
	case name == cssPath:
		styles().serve(w, r)
	default:
		m.servePage(w, r, u, name)
	}
}

// refusal returns why a key must not do what it asks for, nil if it may.
func (m *Monitor) refusal(key *apikey.Key, changes bool) *refusal {
	switch {
	case !key.Allows(apikey.Read):
		return &refusal{"the key does not have the scope read", "此密钥没有 read 权限"}
	case len(key.Apps) > 0:
		return &refusal{
			"the key may use some apps only, and the asynq web UI shows all",
			"此密钥只能使用部分应用，而 asynq 界面会显示全部应用",
		}
	case changes && m.full == nil:
		return &refusal{
			"the asynq web UI is read-only; `gateway.monitor: full` lets it change something",
			"asynq 界面是只读的；配置 gateway.monitor: full 后才能修改",
		}
	case changes && !key.Allows(apikey.Operate):
		return &refusal{"the key does not have the scope operate", "此密钥没有 operate 权限"}
	}
	return nil
}

// servePage answers with a file of asynqmon's or, for a path that its script routes, with its page.
func (m *Monitor) servePage(w http.ResponseWriter, r *http.Request, u *ui, name string) {
	file, err := m.assets.get(name)
	if err == nil {
		file.serve(w, r)
		return
	}
	if path.Ext(name) == ".map" || strings.HasPrefix(name+"/", Root+"/static/") {
		problem.New(http.StatusNotFound, "no such file").Write(w)
		return
	}
	page, err := u.index()
	if err != nil {
		m.deps.Log.Error("the page of the asynq web UI could not be made", "err", err)
		problem.New(http.StatusInternalServerError, "the page could not be made; the log of the gateway has the reason").Write(w)
		return
	}
	m.serveIndex(w, r, page)
}

// Close closes the connections to Redis.
func (m *Monitor) Close() {
	for _, u := range []*ui{m.read, m.full} {
		if u == nil {
			continue
		}
		if err := u.handler.Close(); err != nil && !errors.Is(err, redis.ErrClosed) {
			m.deps.Log.Debug("a client of the asynq web UI was not closed", "err", err)
		}
	}
}

// redisMaker makes a client for each of asynq's tools, since each closes its client.
type redisMaker func() redis.UniversalClient

// MakeRedisClient implements asynq.RedisConnOpt.
func (m redisMaker) MakeRedisClient() any {
	rdb := m()
	rdb.AddHook(tolerantHook{})
	return rdb
}
