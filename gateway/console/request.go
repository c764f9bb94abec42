package console

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"time"

	"github.com/wxcourier/wxcourier/internal/apikey"
)

// request is a request of a page.
type request struct {
	*http.Request
	console *Console
	key     *apikey.Key // nil: not signed in
	session string      // the text of the session; "": the key came otherwise
	lang    language
	now     time.Time
	notices []notice // for the next page
	shown   []notice // on this page
}

func (c *Console) newRequest(r *http.Request) *request {
	session, _ := r.Context().Value(sessionContext{}).(string)
	return &request{
		Request: r, console: c, key: apikey.FromContext(r.Context()), session: session, lang: languageOf(r), now: time.Now(),
	}
}

// require returns a fault unless the key of the session has a scope and may use an app; an empty
// app is not checked.
func (r *request) require(scope apikey.Scope, app string) error {
	switch {
	case !r.key.Allows(scope):
		return faultf(http.StatusForbidden, "fault.scope", string(scope))
	case app != "" && !r.key.AllowsApp(app):
		return faultf(http.StatusForbidden, "fault.app", app)
	}
	return nil
}

// apps returns the ids of the configured apps that the key may use.
func (r *request) apps() []string {
	var ids []string
	for _, app := range r.console.Apps() {
		if r.key.AllowsApp(app.ID) {
			ids = append(ids, app.ID)
		}
	}
	return ids
}

// notice lets the next page tell once what was done, by a text whose verbs are all %s or %[n]s.
// Numbers among args get their separators. args must not be secrets or openids.
func (r *request) notice(text string, args ...any) {
	r.notices = append(r.notices, newNotice(text, args...))
}

const (
	noticeCookie = "wxcourier_notice"
	noticeLife   = time.Minute
	maxNotices   = 3000 // bytes, as JSON: browsers keep 4 KB of a cookie
)

// redirect sends the browser on, with the notices.
func (r *request) redirect(w http.ResponseWriter, next string) {
	if len(r.notices) > 0 {
		text, err := json.Marshal(r.notices)
		if err == nil && len(text) <= maxNotices {
			r.console.setCookie(w, r.Request, noticeCookie, base64.RawURLEncoding.EncodeToString(text), noticeLife)
		}
	}
	http.Redirect(w, r.Request, next, http.StatusSeeOther)
}

// takeNotices makes the page show what the one before it left.
func (r *request) takeNotices(w http.ResponseWriter) {
	cookie, err := r.Cookie(noticeCookie)
	if err != nil {
		return
	}
	r.console.setCookie(w, r.Request, noticeCookie, "", 0)
	text, err := base64.RawURLEncoding.DecodeString(cookie.Value)
	if err == nil {
		_ = json.Unmarshal(text, &r.shown) // what is not ours is not shown
	}
}

func apikeyScope(scope string) apikey.Scope { return apikey.Scope(scope) }
