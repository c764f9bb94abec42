package dispatch

import (
	"errors"
	"log/slog"
	"sync"

	"github.com/wxcourier/wxcourier/wechat"
)

// unlistedCodes remembers which errcodes without a row in the code table were logged.
type unlistedCodes struct {
	mu     sync.Mutex
	logged map[unlistedCode]bool // guarded by mu
}

type unlistedCode struct {
	endpoint wechat.Endpoint
	code     int
}

// maxUnlisted bounds the remembered codes. Further codes are not logged.
const maxUnlisted = 1000

// shouldLog reports whether a code was not logged before for its endpoint.
func (u *unlistedCodes) shouldLog(at unlistedCode) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.logged[at] || len(u.logged) >= maxUnlisted {
		return false
	}
	if u.logged == nil {
		u.logged = make(map[unlistedCode]bool)
	}
	u.logged[at] = true
	return true
}

// logUnlisted logs an errcode that has no row in the code table, once for each endpoint.
func (d *Dispatcher) logUnlisted(c *Call, cause error) {
	var api *wechat.APIError
	if !errors.As(cause, &api) || api.Class() != wechat.ClassUnlisted || !d.unlisted.shouldLog(unlistedCode{api.Endpoint, api.Code}) {
		return
	}
	d.log.Warn("an errcode has no row in the code table; tell the maintainers, or add one",
		c.Log(slog.String("api", string(api.Endpoint)), slog.Int("errcode", api.Code), slog.Any("err", cause))...)
}
