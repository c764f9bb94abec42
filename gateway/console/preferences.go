package console

import (
	"net/http"
	"slices"
	"time"
)

const (
	languageCookie  = "wxcourier_language"
	themeCookie     = "wxcourier_theme"
	preferencesLife = 365 * 24 * time.Hour
)

// theme is the colors of the pages; automatic are those of the system.
type theme string

// The themes, in the order in which the button switches.
const (
	automatic theme = "auto"
	light     theme = "light"
	dark      theme = "dark"
)

func themes() []theme { return []theme{automatic, light, dark} }

// themeOf returns the theme of a browser.
func themeOf(r *http.Request) theme {
	cookie, err := r.Cookie(themeCookie)
	if err != nil || !slices.Contains(themes(), theme(cookie.Value)) {
		return automatic
	}
	return theme(cookie.Value)
}

// Next returns the theme to which the button switches.
func (t theme) Next() theme {
	return themes()[(slices.Index(themes(), t)+1)%len(themes())]
}

// setPreferences keeps a language or a theme in the browser. It needs no session, since the sign-in
// page has the buttons too, and no token: there is nothing that another site could do with it.
func (c *Console) setPreferences(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxSignInBody)
	if err := r.ParseForm(); err != nil {
		c.views.writeFault(w, c.newRequest(r), &fault{http.StatusBadRequest, "fault.body", []any{"65,536"}})
		return
	}
	if lang := language(r.PostForm.Get("language")); slices.Contains(languages(), lang) {
		c.setCookie(w, r, languageCookie, string(lang), preferencesLife)
	}
	if t := theme(r.PostForm.Get("theme")); slices.Contains(themes(), t) {
		c.setCookie(w, r, themeCookie, string(t), preferencesLife)
	}
	http.Redirect(w, r, ownPath(r.PostForm.Get("next")), http.StatusSeeOther) //nolint:gosec // an own path
}
