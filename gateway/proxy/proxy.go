// Package proxy answers under /wechat/ what api.weixin.qq.com answers, so that a service with any
// SDK gets the shared token, the pace and the holds by changing one base URL.
package proxy

import (
	"log/slog"
	"net/http"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/wechat"
)

// Config configures a Proxy.
type Config struct {
	Wait time.Duration // for a permit
}

// Deps are the dependencies of a Proxy. All are required.
type Deps struct {
	Redis   redis.UniversalClient
	Tasks   *tasks.Client
	Limiter *ratelimit.Limiter
	WeChat  *wechat.Client
	Tokens  *wechat.Tokens
	Log     *slog.Logger
}

// Proxy serves WeChat's own paths. Create it with New.
type Proxy struct {
	cfg  Config
	deps Deps
}

// New creates a Proxy. It does no I/O.
func New(cfg Config, deps Deps) *Proxy { return &Proxy{cfg: cfg, deps: deps} }

// ServeHTTP implements http.Handler. The path is WeChat's.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) { http.NotFound(w, r) }

// Close ends what runs in the background. All requests must have ended.
func (p *Proxy) Close() {}
