package gateway

import (
	"net/http"

	"github.com/hibiken/asynqmon"
	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/apikey"
	"github.com/wxcourier/wxcourier/internal/problem"
)

// monitorPolicy lets the pages load nothing from elsewhere; asynqmon's name two sheets of fonts.
const monitorPolicy = "default-src 'self'; style-src 'self' 'unsafe-inline'; script-src 'self' 'unsafe-inline'; " +
	"img-src 'self' data:; font-src 'self' data:; frame-ancestors 'none'; base-uri 'self'; form-action 'self'"

// monitor is the asynq web UI, for keys that may read all apps: it cannot be limited to some.
type monitor struct {
	read *asynqmon.HTTPHandler
	full *asynqmon.HTTPHandler // for keys that may operate; nil: no key may change anything
}

func newMonitor(newRedis func() redis.UniversalClient, full bool) *monitor {
	pages := func(readOnly bool) *asynqmon.HTTPHandler {
		return asynqmon.New(asynqmon.Options{RootPath: "/monitor", RedisConnOpt: redisMaker(newRedis), ReadOnly: readOnly})
	}
	m := &monitor{read: pages(true)}
	if full {
		m.full = pages(false)
	}
	return m
}

// ServeHTTP implements http.Handler.
func (m *monitor) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	key := apikey.FromContext(r.Context())
	refuse := func(detail string) { problem.New(http.StatusForbidden, detail).Write(w) }
	changes := r.Method != http.MethodGet && r.Method != http.MethodHead
	switch {
	case !key.Allows(apikey.Read):
		refuse("the key does not have the scope read")
	case len(key.Apps) > 0:
		refuse("the key may use some apps only, and the asynq web UI shows all")
	case changes && m.full == nil:
		refuse("the asynq web UI is read-only; `gateway.monitor: full` lets it change something")
	case changes && !key.Allows(apikey.Operate):
		refuse("the key does not have the scope operate")
	default:
		w.Header().Set("Content-Security-Policy", monitorPolicy)
		w.Header().Set("X-Content-Type-Options", "nosniff")
		if m.full != nil && key.Allows(apikey.Operate) {
			m.full.ServeHTTP(w, r)
			return
		}
		m.read.ServeHTTP(w, r)
	}
}

// Close closes the connections to Redis.
func (m *monitor) Close() {
	_ = m.read.Close()
	if m.full != nil {
		_ = m.full.Close()
	}
}

// redisMaker makes a client for each of asynq's tools, since each closes its client.
type redisMaker func() redis.UniversalClient

// MakeRedisClient implements asynq.RedisConnOpt.
func (m redisMaker) MakeRedisClient() any { return m() }
