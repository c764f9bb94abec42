package webhook

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
)

// forbidden are addresses that are not public, of each kind.
func forbidden() []string {
	return []string{
		"0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.100.100.200", "100.127.255.255", "127.0.0.1", "127.8.9.10",
		"169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.2.1", "192.88.99.1", "192.168.0.1", "198.18.0.1", "198.19.255.255",
		"198.51.100.7", "203.0.113.9", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
		"::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:a9fe:a9fe", "::ffff:100.100.100.200", "64:ff9b::7f00:1", "64:ff9b::a00:1",
		"64:ff9b:1::1", "100::1", "2001::1", "2001:0:7f00:1::", "2001:db8::1", "2002:7f00:1::", "2002:a00:1::1", "3fff::1", "4000::1", "5f00::1",
		"fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1",
	}
}

// Addresses that are not public are refused, unless they are allowed.
func TestForbiddenAddresses(t *testing.T) {
	for _, text := range forbidden() {
		ip := netip.MustParseAddr(text)
		if err := (guard{}).check(ip); err == nil {
			t.Errorf("%s may be reached", text)
		}
		network, err := parseNetwork(text)
		if err != nil {
			t.Fatal(err)
		}
		if err := (guard{allowed: []netip.Prefix{network}, onlyAllowed: true}).check(ip); err != nil {
			t.Errorf("%s is allowed: %v", text, err)
		}
	}
	for _, text := range []string{"8.8.8.8", "100.63.255.255", "100.128.0.1", "172.32.0.1", "192.0.1.1", "223.255.255.255", "::ffff:8.8.8.8", "2400:3200::1", "2606:4700::1111"} {
		ip := netip.MustParseAddr(text)
		if err := (guard{}).check(ip); err != nil {
			t.Errorf("%s: %v", text, err)
		}
		if err := (guard{onlyAllowed: true}).check(ip); err == nil {
			t.Errorf("%s may be reached without https", text)
		}
	}
	for _, text := range []string{"", "no address", "127.0.0.1", ":80"} {
		if err := (guard{}).control("tcp", text, nil); err == nil {
			t.Errorf("the address %q is dialed", text)
		}
	}
}

// No spelling of a forbidden address, no name that leads to one, and no redirect reaches it.
func TestNoSpellingReachesLoopback(t *testing.T) {
	var reached atomic.Int32
	inside := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) }))
	defer inside.Close()
	_, port, _ := net.SplitHostPort(inside.Listener.Addr().String())
	names, asked := rebinding(t)
	call := func(host string, allowed ...string) answer {
		t.Helper()
		e := Endpoint{Name: "crm", URL: "https://" + host + ":" + port + "/", Secret: secret, AllowPrivate: allowed}
		c, err := newClient(e, long)
		if err != nil {
			t.Fatal(err)
		}
		defer c.close()
		transport, _ := c.http.Transport.(*http.Transport)
		dialer := net.Dialer{Control: e.guard().control, Resolver: names}
		transport.DialContext = dialer.DialContext
		transport.TLSClientConfig = inside.Client().Transport.(*http.Transport).TLSClientConfig //nolint:forcetypeassert // of httptest
		return c.send(t.Context(), "msg_1", []byte("{}"))
	}
	for _, host := range []string{
		"127.0.0.1", "127.1", "127.0.1", "2130706433", "017700000001", "0x7f000001", "0x7f.0.0.1", "0177.0.0.1", "127.000.000.001", "0", "0.0.0.0",
		"localhost", "LOCALHOST.", "localhost.localdomain", "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[0:0:0:0:0:ffff:7f00:1]", "[::127.0.0.1]",
		"[64:ff9b::7f00:1]", "[2002:7f00:1::]", "[fe80::1%25lo]", "①②⑦.⓪.⓪.①", "rebind.example.com", "v6.example.com",
	} {
		if a := call(host); a.class != ClassAddress && a.class != ClassNetwork && a.class != ClassProtocol {
			t.Errorf("%s: %+v", host, a)
		}
	}
	outside := newEndpoint(t)
	outside.answers(func(_ message, w http.ResponseWriter) int {
		w.Header().Set("Location", inside.URL)
		return http.StatusTemporaryRedirect
	})
	c, err := newClient(outside.config("crm"), long)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("HTTP_PROXY", inside.URL) // is not used
	if a := c.send(t.Context(), "msg_1", sample(c.now())); a.class != ClassRedirect {
		t.Errorf("a redirect: %+v", a)
	}
	if n := reached.Load(); n > 0 {
		t.Errorf("reached %d times", n)
	}
	if a := call("example.com", "127.0.0.0/8", "::1"); a.class != ClassOK || reached.Load() != 1 || asked.Load() == 0 {
		t.Errorf("an allowed address: %+v, reached %d times", a, reached.Load())
	}
}

// rebinding returns a resolver that says that every name is a loopback address.
func rebinding(t *testing.T) (resolver *net.Resolver, asked *atomic.Int32) {
	t.Helper()
	packets, err := (&net.ListenConfig{}).ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = packets.Close() })
	asked = &atomic.Int32{}
	go func() {
		b := make([]byte, 1500)
		for {
			n, from, err := packets.ReadFrom(b)
			if err != nil {
				return
			}
			asked.Add(1)
			_, _ = packets.WriteTo(loopbackAnswer(b[:n]), from)
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", packets.LocalAddr().String())
	}}, asked
}

// loopbackAnswer answers a DNS question for A or AAAA with 127.0.0.1 or ::1.
func loopbackAnswer(question []byte) []byte {
	end := 12
	for question[end] != 0 {
		end += int(question[end]) + 1
	}
	end += 5 // the zero, type and class
	reply := append([]byte(nil), question[:end]...)
	binary.BigEndian.PutUint16(reply[2:], 0x8180)
	binary.BigEndian.PutUint16(reply[6:], 1) // answers
	binary.BigEndian.PutUint32(reply[8:], 0)
	address := []byte{127, 0, 0, 1}
	typ := binary.BigEndian.Uint16(question[end-4:])
	if typ == 28 {
		address = net.IPv6loopback
	}
	reply = append(reply, 0xc0, 12, byte(typ>>8), byte(typ), 0, 1, 0, 0, 0, 0, 0, byte(len(address)))
	return append(reply, address...)
}

// The answer of an endpoint is not read without end, and not kept.
func TestAnswersAreBounded(t *testing.T) {
	var written atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		for chunk := strings.Repeat("x", 64<<10); written.Load() < 1<<30; {
			n, err := io.WriteString(w, chunk)
			if written.Add(int64(n)); err != nil {
				return
			}
		}
	}))
	defer server.Close()
	c, err := newClient(Endpoint{URL: server.URL, Secret: secret, AllowPrivate: []string{"127.0.0.0/8", "::1"}}, long)
	if err != nil {
		t.Fatal(err)
	}
	if a := c.send(t.Context(), "msg_1", []byte("{}")); a.class != ClassOK {
		t.Errorf("%+v", a)
	}
	server.CloseClientConnections()
	if n := written.Load(); n >= 1<<30 {
		t.Errorf("%d bytes were taken", n)
	}
}

// A call that is not answered in time, or not at all, is said without the URL.
func TestCallsWithoutAnswer(t *testing.T) {
	hang := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-hang }))
	defer server.Close()
	defer close(hang)
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	for url, want := range map[string]Class{server.URL: ClassTimeout, closed.URL: ClassNetwork} {
		c, err := newClient(Endpoint{URL: url + "/?key=query-secret", Secret: secret, AllowPrivate: []string{"127.0.0.1"}}, long)
		if err != nil {
			t.Fatal(err)
		}
		c.http.Timeout = long
		if want == ClassTimeout {
			c.http.Timeout = 1 // ns
		}
		if a := c.send(t.Context(), "msg_1", nil); a.class != want || a.detail == "" || strings.Contains(a.detail, "query-secret") {
			t.Errorf("%+v, want %s", a, want)
		}
	}
}

// Each status has the class that the documentation gives it.
func TestClassOf(t *testing.T) {
	for status, want := range map[int]Class{
		200: ClassOK, 204: ClassOK, 301: ClassRedirect, 308: ClassRedirect, 400: ClassRefused, 401: ClassEndpoint, 403: ClassEndpoint,
		404: ClassEndpoint, 408: ClassServer, 409: ClassRefused, 410: ClassGone, 413: ClassRefused, 422: ClassRefused, 425: ClassServer,
		429: ClassLimited, 500: ClassServer, 503: ClassServer, 199: ClassProtocol, 600: ClassProtocol,
	} {
		if got := classOf(status); got != want {
			t.Errorf("%d is %s, want %s", status, got, want)
		}
	}
}
