package gateway

import (
	"context"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/wxcourier/wxcourier/internal/apikey"
	"github.com/wxcourier/wxcourier/internal/problem"
)

// authenticated passes requests on with their key in the context. It refuses those without a valid
// key, and those that exceed the key's rate or size. The context of a request that reads ends when
// the key is revoked, changes or expires.
func (g *Gateway) authenticated(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		key, err := g.deps.Keys.Authenticate(keyOf(r))
		if err != nil {
			refuseKey(w)
			return
		}
		e := exchangeOf(r.Context())
		e.key = key.ID
		if after, ok := key.Admit(); !ok {
			w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(after.Seconds()))))
			problem.New(http.StatusTooManyRequests, "the key's rate of requests is exceeded; see the header Retry-After").Write(w)
			return
		}
		if !limitBody(w, r, key.MaxBody) {
			return
		}
		ctx := apikey.NewContext(r.Context(), key)
		if r.Method == http.MethodGet {
			var end func()
			ctx, end = g.whileValid(ctx, key)
			defer end()
		}
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

// keyOf returns what the request has as its key: a bearer token or, for browsers and curl -u, the
// password of basic authentication with any name.
func keyOf(r *http.Request) string {
	scheme, token, found := strings.Cut(r.Header.Get("Authorization"), " ")
	if found && strings.EqualFold(scheme, "Bearer") {
		return strings.TrimSpace(token)
	}
	_, password, _ := r.BasicAuth()
	return password
}

// refuseKey answers a request without a valid key. What is wrong with the key is not told.
func refuseKey(w http.ResponseWriter) {
	w.Header().Add("WWW-Authenticate", `Bearer realm="wxcourier"`)
	w.Header().Add("WWW-Authenticate", `Basic realm="wxcourier", charset="UTF-8"`)
	problem.New(http.StatusUnauthorized, "a valid key is required: send it as `Authorization: Bearer wxc_…`, or as the password of basic authentication").Write(w)
}

// whileValid returns a context that ends when a key is no longer what it is now. end must be called.
func (g *Gateway) whileValid(ctx context.Context, key *apikey.Key) (valid context.Context, end func()) {
	if g.deps.Keys.Open() {
		return ctx, func() {}
	}
	valid, cancel := context.WithCancel(ctx)
	stop := g.deps.Keys.OnChange(func() {
		if now, ok := g.deps.Keys.Get(key.ID); !ok || now.Fingerprint != key.Fingerprint {
			cancel()
		}
	})
	var expiry *time.Timer
	if !key.Expires.IsZero() {
		expiry = time.AfterFunc(time.Until(key.Expires), cancel)
	}
	return valid, func() {
		stop()
		cancel()
		if expiry != nil {
			expiry.Stop()
		}
	}
}
