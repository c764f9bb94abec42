package gateway

import (
	"math"
	"net/http"
	"strconv"

	"github.com/wxcourier/wxcourier/internal/apikey"
	"github.com/wxcourier/wxcourier/internal/problem"
)

// authenticated passes requests on with their key in the context. It refuses those without a valid
// key, and those that exceed the key's rate or size. The context of a request that reads ends when
// the key is revoked, changes or expires.
func (g *Gateway) authenticated(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		key, err := g.deps.Keys.Authenticate(apikey.OfRequest(r))
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
			ctx, end = g.deps.Keys.WhileValid(ctx, key)
			defer end()
		}
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

// refuseKey answers a request without a valid key. What is wrong with the key is not told.
func refuseKey(w http.ResponseWriter) {
	w.Header().Add("WWW-Authenticate", `Bearer realm="wxcourier"`)
	w.Header().Add("WWW-Authenticate", `Basic realm="wxcourier", charset="UTF-8"`)
	problem.New(http.StatusUnauthorized, "a valid key is required: send it as `Authorization: Bearer wxc_…`, or as the password of basic authentication").Write(w)
}
