package console

import (
	"context"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/wxcourier/wxcourier/internal/apikey"
	"github.com/wxcourier/wxcourier/internal/problem"
	"github.com/wxcourier/wxcourier/internal/signing"
)

// errSignature is the error of a text that was not signed by us.
var errSignature = signing.ErrSignature

// signInPath is the page where a session begins.
const signInPath = "/signin"

type sessionContext struct{}

// Authenticated passes requests on with the key of their session, or of their Authorization header,
// in the context. It sends browsers without a session to the sign-in page. The context of a request
// that reads ends when the key is revoked, changes or expires. The pages and the asynq web UI are
// behind it.
func (c *Console) Authenticated(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		key, session, ok := c.authenticate(w, r)
		if !ok {
			return
		}
		if c.Signed != nil {
			c.Signed(r, key)
		}
		ctx := context.WithValue(apikey.NewContext(r.Context(), key), sessionContext{}, session)
		if r.Method == http.MethodGet {
			var end func()
			ctx, end = c.Keys.WhileValid(ctx, key)
			defer end()
		}
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

// authenticate returns the key of a request and the text of its session, "" without one. Where there
// is no key, it answers the request and returns false.
func (c *Console) authenticate(w http.ResponseWriter, r *http.Request) (key *apikey.Key, session string, ok bool) {
	if c.Keys.Open() {
		return apikey.Local(), "", true
	}
	if r.Header.Get("Authorization") != "" {
		key, err := c.Keys.Authenticate(apikey.OfRequest(r))
		if err != nil {
			refuseKey(w, r)
			return nil, "", false
		}
		if after, ok := key.Admit(); !ok {
			w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(after.Seconds()))))
			problem.New(http.StatusTooManyRequests, "the key's rate of requests is exceeded; see the header Retry-After").Write(w)
			return nil, "", false
		}
		return key, "", true
	}
	key, session, ok, err := c.sessionOf(r)
	switch {
	case err != nil:
		c.Log.Warn("a session could not be checked", "err", err)
		c.views.writeFault(w, c.newRequest(r), &fault{status: http.StatusServiceUnavailable, text: "fault.redis"})
		return nil, "", false
	case ok:
		return key, session, true
	case wantsPage(r):
		target := signInPath
		if r.Method == http.MethodGet && r.URL.Path != "/" {
			target += "?next=" + url.QueryEscape(r.URL.RequestURI())
		}
		http.Redirect(w, r, target, http.StatusSeeOther)
	default:
		refuseKey(w, r)
	}
	return nil, "", false
}

// wantsPage reports whether a browser asks for a page.
func wantsPage(r *http.Request) bool { return strings.Contains(r.Header.Get("Accept"), "text/html") }

// refuseKey answers a request without a valid key. What is wrong with the key is not told. Scripts of
// pages are not asked for a password, which a browser would do in a dialog.
func refuseKey(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Sec-Fetch-Mode") == "" || r.Header.Get("Authorization") != "" {
		w.Header().Add("WWW-Authenticate", `Bearer realm="wxcourier"`)
		w.Header().Add("WWW-Authenticate", `Basic realm="wxcourier", charset="UTF-8"`)
	}
	problem.New(http.StatusUnauthorized, "a valid key is required: sign in at "+signInPath+" with a browser, or send it as `Authorization: Bearer wxc_…`, or as the password of basic authentication").Write(w)
}

// ownPath returns a path of ours, with its query, that a form or a link names, or "/" for others.
func ownPath(next string) string {
	u, err := url.Parse(next)
	if err != nil || u.Scheme != "" || u.Host != "" || u.User != nil || !strings.HasPrefix(u.Path, "/") ||
		strings.HasPrefix(u.Path, "//") || strings.ContainsAny(next, "\\\t\r\n") {
		return "/"
	}
	return (&url.URL{Path: u.Path, RawPath: u.RawPath, RawQuery: u.RawQuery}).String()
}
