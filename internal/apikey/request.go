package apikey

import (
	"net/http"
	"strings"
)

// OfRequest returns what a request has as its key: a bearer token or, for browsers and curl -u, the
// password of basic authentication with any name. It returns "" if there is none.
func OfRequest(r *http.Request) string {
	scheme, token, found := strings.Cut(r.Header.Get("Authorization"), " ")
	if found && strings.EqualFold(scheme, "Bearer") {
		return strings.TrimSpace(token)
	}
	_, password, _ := r.BasicAuth()
	return password
}
