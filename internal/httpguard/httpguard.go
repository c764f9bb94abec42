// Package httpguard keeps other websites away from our HTTP pages. A browser sends requests
// for any page that it shows, also to addresses that only its own machine reaches:
//
//   - a page of another site posts a form to http://127.0.0.1:8080. The Origin and
//     Sec-Fetch-Site headers tell, and http.CrossOriginProtection refuses it.
//   - a page at http://evil.example lets that name resolve to 127.0.0.1 (DNS rebinding), so
//     that the browser holds our pages for its own and lets it read them. The Host header
//     still has the name, and is checked.
//
// Neither is authentication: a program that is no browser sends what headers it likes.
package httpguard

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// A Guard stands before the handlers of one listener.
type Guard struct {
	hosts    []string // that requests may name, in small letters
	loopback bool     // the listener is reached from this machine alone
}

// New makes the guard of a listener at an address such as "127.0.0.1:8080" or ":8080". The
// hosts are further names by which clients call it, without ports: a service name, the name
// that a reverse proxy passes on.
//
// These hosts are allowed without being named:
//
//   - the host of the address, localhost, and the loopback addresses;
//   - where the address is none of the loopback: any IP address, and names without a dot, as
//     containers have. No name that a foreign site could have is among them.
//
// The port is not compared: port forwarding (ssh -L, docker -p) changes it, and a foreign
// site is told by its name.
func New(address string, hosts ...string) *Guard {
	g := &Guard{hosts: []string{"localhost"}, loopback: Loopback(address)}
	for _, host := range append(hosts, hostOf(address)) {
		if host != "" {
			g.hosts = append(g.hosts, strings.ToLower(host))
		}
	}
	return g
}

// Loopback tells whether a listener at an address is reached from this machine alone.
func Loopback(address string) bool {
	host := hostOf(address)
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// Protect refuses requests for other hosts, and those that change something and come from
// another site, with status 403. Requests without an Origin, as curl and programs send them,
// pass.
func (g *Guard) Protect(next http.Handler) http.Handler {
	next = http.NewCrossOriginProtection().Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !g.allows(r.Host) {
			http.Error(w, fmt.Sprintf("forbidden: this server does not go by the host name %.100q", r.Host), http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// allows tells whether a request may name a host.
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

// hostOf is an address without its port and brackets.
func hostOf(address string) string {
	if host, _, err := net.SplitHostPort(address); err == nil {
		return host
	}
	return strings.TrimSuffix(strings.TrimPrefix(address, "["), "]")
}
