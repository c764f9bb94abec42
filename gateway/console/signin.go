package console

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/wxcourier/wxcourier/internal/apikey"
	"github.com/wxcourier/wxcourier/internal/audit"
)

// signIn is the data of the sign-in page.
type signIn struct {
	Next  string
	Fault string // id of a text; "": none
}

// maxSignInBody is the size of the form of the sign-in page.
const maxSignInBody = 64 << 10

// serveSignIn registers the sign-in page, and what works without a session.
func (c *Console) serveSignIn() {
	c.mux.HandleFunc("GET "+signInPath, func(w http.ResponseWriter, r *http.Request) {
		next := ownPath(r.URL.Query().Get("next"))
		if _, _, signedIn, _ := c.sessionOf(r); c.Keys.Open() || signedIn {
			http.Redirect(w, r, next, http.StatusSeeOther) //nolint:gosec // an own path
			return
		}
		c.views.execute(w, c.newRequest(r), "signin", http.StatusOK, signIn{Next: next})
	})
	c.mux.HandleFunc("POST "+signInPath, c.signIn)
	c.mux.HandleFunc("POST /preferences", c.setPreferences)
	c.handleForm("/signout", page{name: "signin"}, func(w http.ResponseWriter, r *request) {
		for _, secure := range []bool{true, false} {
			c.setCookie(w, r.Request, cookieName(secure), "", 0)
		}
		http.Redirect(w, r.Request, signInPath, http.StatusSeeOther)
	})
}

// signIn begins a session.
func (c *Console) signIn(w http.ResponseWriter, r *http.Request) {
	rq := c.newRequest(r)
	r.Body = http.MaxBytesReader(w, r.Body, maxSignInBody)
	if err := r.ParseForm(); err != nil {
		c.views.writeFault(w, rq, &fault{http.StatusBadRequest, "fault.body", []any{"65,536"}})
		return
	}
	next := ownPath(r.PostForm.Get("next"))
	refuse := func(status int, text string) {
		c.views.execute(w, rq, "signin", status, signIn{next, text})
	}
	if c.Keys.Open() {
		http.Redirect(w, r, next, http.StatusSeeOther) //nolint:gosec // an own path
		return
	}
	if !c.signIns.allowed(r.RemoteAddr, rq.now) {
		w.Header().Set("Retry-After", "60")
		refuse(http.StatusTooManyRequests, "signin.limited")
		return
	}
	key, err := c.Keys.Authenticate(strings.TrimSpace(r.PostForm.Get("key")))
	switch {
	case err != nil:
		c.signIns.failed(r.RemoteAddr, rq.now)
		refuse(http.StatusUnprocessableEntity, "signin.wrong")
		return
	case !key.Allows(apikey.Read):
		refuse(http.StatusForbidden, "signin.scope")
		return
	}
	text, err := c.secret.Sign(r.Context(), newSession(key, rq.now).content())
	if err != nil {
		c.Log.Warn("a session could not be begun", "err", err)
		refuse(http.StatusServiceUnavailable, "fault.redis")
		return
	}
	if c.Signed != nil {
		c.Signed(r, key)
	}
	audit.Record(r.Context(), c.Redis, c.Log, audit.Entry{By: "key:" + key.ID, Via: audit.Console, Action: audit.SignIn})
	c.setCookie(w, r, cookieName(c.secure(r)), text, sessionLife)
	http.Redirect(w, r, next, http.StatusSeeOther) //nolint:gosec // an own path
}

const (
	// wrongSignIns are the wrong keys that an address may try in a minute.
	wrongSignIns = 30
	// signInAddresses are the addresses that are counted apart. All others together may try
	// otherSignIns.
	signInAddresses = 4096
	otherSignIns    = 10 * wrongSignIns
)

// signInLimit counts wrong keys by address, for a minute.
type signInLimit struct {
	mu    sync.Mutex
	since time.Time      // guarded by mu
	wrong map[string]int // guarded by mu; by address, "" for those that are not counted apart
}

// allowed reports whether an address may try a key.
func (l *signInLimit) allowed(addr string, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.wrong == nil || now.Sub(l.since) >= time.Minute {
		l.since, l.wrong = now, make(map[string]int)
	}
	name := l.name(addr)
	if name == "" {
		return l.wrong[name] < otherSignIns
	}
	return l.wrong[name] < wrongSignIns
}

// failed counts a wrong key.
func (l *signInLimit) failed(addr string, now time.Time) {
	l.allowed(addr, now)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wrong[l.name(addr)]++
}

// name returns under which name an address is counted: of IPv6 the network. l.mu is held.
func (l *signInLimit) name(addr string) string {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		host = addr
	}
	name := host
	if ip, err := netip.ParseAddr(host); err == nil {
		ip = ip.Unmap()
		bits := 32
		if ip.Is6() {
			bits = 64
		}
		if network, err := ip.Prefix(bits); err == nil {
			name = network.String()
		}
	}
	if _, known := l.wrong[name]; !known && len(l.wrong) >= signInAddresses {
		return ""
	}
	return name
}
