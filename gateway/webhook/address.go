package webhook

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"syscall"
)

// notPublic are the networks that a webhook may not reach, unless they are allowed: an endpoint's
// name is resolved by a DNS server that may belong to somebody else. IPv6 outside of 2000::/3 is not
// public either. See the IANA special-purpose address registries.
func notPublic() []netip.Prefix {
	var all []netip.Prefix
	for _, text := range []string{
		"0.0.0.0/8",       // this host
		"10.0.0.0/8",      // private
		"100.64.0.0/10",   // shared; the metadata address of Alibaba Cloud is 100.100.100.200
		"127.0.0.0/8",     // loopback
		"169.254.0.0/16",  // link-local; metadata addresses of most clouds
		"172.16.0.0/12",   // private
		"192.0.0.0/24",    // protocol assignments
		"192.0.2.0/24",    // documentation
		"192.88.99.0/24",  // 6to4 relays
		"192.168.0.0/16",  // private
		"198.18.0.0/15",   // benchmarks
		"198.51.100.0/24", // documentation
		"203.0.113.0/24",  // documentation
		"224.0.0.0/4",     // multicast
		"240.0.0.0/4",     // reserved, broadcast
		"2001::/23",       // protocol assignments, with Teredo
		"2001:db8::/32",   // documentation
		"2002::/16",       // 6to4
		"3fff::/20",       // documentation
	} {
		all = append(all, netip.MustParsePrefix(text))
	}
	return all
}

// publicIPv6 is what IANA has assigned for use on the internet. Outside of it are loopback,
// unspecified, mapped, NAT64, unique local, link-local and multicast addresses.
func publicIPv6() netip.Prefix { return netip.MustParsePrefix("2000::/3") }

// errForbiddenAddress means that a webhook's name or address leads to a network that it may not
// reach.
var errForbiddenAddress = errors.New("the address is not public")

// guard decides which addresses an endpoint may be connected to.
type guard struct {
	allowed     []netip.Prefix
	onlyAllowed bool // public addresses are refused as well
}

// check returns an error unless an address may be connected to.
func (g guard) check(ip netip.Addr) error {
	ip = ip.Unmap().WithZone("")
	contains := func(p netip.Prefix) bool { return p.Contains(ip) }
	if slices.ContainsFunc(g.allowed, contains) {
		return nil
	}
	switch {
	case !ip.IsValid() || slices.ContainsFunc(notPublic(), contains) || ip.Is6() && !publicIPv6().Contains(ip):
		return fmt.Errorf("%w: %s", errForbiddenAddress, ip)
	case g.onlyAllowed:
		return fmt.Errorf("%w: without https only allow_private is reached, and %s is not in it", errForbiddenAddress, ip)
	}
	return nil
}

// control implements net.Dialer.Control. It sees the address that is connected to, after the name
// was resolved.
func (g guard) control(_, address string, _ syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%w: cannot parse it", errForbiddenAddress)
	}
	return g.check(to.Addr())
}

// parseNetwork parses an address or a network.
func parseNetwork(text string) (netip.Prefix, error) {
	if network, err := netip.ParsePrefix(text); err == nil {
		return network.Masked(), nil
	}
	ip, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Prefix{}, err
	}
	ip = ip.Unmap().WithZone("")
	return netip.PrefixFrom(ip, ip.BitLen()), nil
}
