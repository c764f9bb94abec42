// Package httpguard protects our HTTP pages against requests of other websites. A browser sends
// requests for any page that it shows, even to addresses that only its own machine can reach:
//
//   - A page of another site posts a form to http://127.0.0.1:8080. The Origin and
//     Sec-Fetch-Site headers show this, and http.CrossOriginProtection refuses the request.
//   - A page at http://evil.example makes that name resolve to 127.0.0.1 (DNS rebinding). The
//     browser then treats our pages as the same site and lets the page read them. The Host
//     header still contains the name, and is checked.
//
// Neither is authentication: a program that is not a browser can send any headers.
package httpguard

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// A Guard checks the requests to one listener.
type Guard struct {
	hosts    []string // allowed host names, in lower case
	loopback bool     // the listener is reachable from this machine only

	// Remedy says how a host name is allowed, for the answer to a request that is refused.
	Remedy string
}

// New returns the guard of a listener at an address such as "127.0.0.1:8080" or ":8080". hosts
// are additional host names that clients use, without ports: a service name, or the name that a
// reverse proxy passes on.
//
// These hosts are always allowed:
//
//   - the host of the address, localhost, and the loopback addresses;
//   - if the address is not a loopback address: any IP address, and names without a dot, such
//     as those of containers. A foreign site cannot have such a name.
//
// Ports are not compared: port forwarding (ssh -L, docker -p) changes them, and a foreign site
// differs by its name.
func New(address string, hosts ...string) *Guard {
	g := &Guard{hosts: []string{"localhost"}, loopback: Loopback(address)}
	for _, host := range append(hosts, hostOf(address)) {
		if host != "" {
			g.hosts = append(g.hosts, strings.ToLower(host))
		}
	}
	return g
}

// Loopback reports whether a listener at an address is reachable from this machine only.
func Loopback(address string) bool {
	host := hostOf(address)
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// Protect returns a handler that refuses, with status 403, requests for other hosts and requests
// of other sites with an unsafe method. Requests without an Origin, such as those of curl, pass.
func (g *Guard) Protect(next http.Handler) http.Handler {
	next = http.NewCrossOriginProtection().Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !g.allows(r.Host) {
			text := fmt.Sprintf("forbidden: the host name %.100q is not allowed", r.Host)
			if g.Remedy != "" {
				text += "; " + g.Remedy
			}
			http.Error(w, text, http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// allows reports whether requests for a host are allowed.
func (g *Guard) allows(hostport string) bool {
	host := strings.ToLower(hostOf(hostport))
	if slices.Contains(g.hosts, host) {
		return true
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.IsLoopback() || !g.loopback
	}
	return !g.loopback && host != "" && !strings.Contains(host, ".")
}

// hostOf returns an address without its port and brackets.
func hostOf(address string) string {
	if host, _, err := net.SplitHostPort(address); err == nil {
		return host
	}
	return strings.TrimSuffix(strings.TrimPrefix(address, "["), "]")
}
