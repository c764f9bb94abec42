package httpguard_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/wxcourier/wxcourier/internal/httpguard"
)

// serve serves a page behind a guard, and returns its URL.
func serve(t *testing.T, g *httpguard.Guard) string {
	t.Helper()
	server := httptest.NewServer(g.Protect(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "the page")
	})))
	t.Cleanup(server.Close)
	return server.URL
}

// status sends a request, and returns the status of the response.
func status(t *testing.T, method, url, host string, headers map[string]string) int {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if host != "" {
		request.Host = host
	}
	for name, value := range headers {
		request.Header.Set(name, value)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	return response.StatusCode
}

func TestHosts(t *testing.T) {
	const ok, no = http.StatusOK, http.StatusForbidden
	for _, tt := range []struct {
		address string
		host    string
		want    int
	}{
		{"127.0.0.1:8080", "", ok},
		{"127.0.0.1:8080", "127.0.0.1:8080", ok},
		{"127.0.0.1:8080", "LocalHost:8080", ok},
		{"127.0.0.1:8080", "localhost", ok},
		{"127.0.0.1:8080", "localhost:9999", ok}, // ssh -L 9999:localhost:8080
		{"127.0.0.1:8080", "[::1]:8080", ok},
		{"127.0.0.1:8080", "configured.example:8080", ok},
		{"127.0.0.1:8080", "evil.example", no},
		{"127.0.0.1:8080", "evil.example:8080", no},
		{"127.0.0.1:8080", "localhost.evil.example:8080", no},
		{"127.0.0.1:8080", "127.0.0.1.evil.example", no},
		{"127.0.0.1:8080", "sandbox:8080", no},
		{"127.0.0.1:8080", "192.168.1.7:8080", no},
		{"localhost:8080", "192.168.1.7:8080", no},
		{"[::1]:8080", "[::1]:8080", ok},
		{":8080", "127.0.0.1:8080", ok},
		{":8080", "192.168.1.7:8080", ok},
		{":8080", "[fe80::1]:8080", ok},
		{":8080", "sandbox:8080", ok},
		{":8080", "configured.example", ok},
		{":8080", "evil.example:8080", no},
		{":8080", "evil.example.:8080", no},
		{"0.0.0.0:8080", "evil.example", no},
		{"box.example:8080", "box.example:8080", ok},
		{"box.example:8080", "evil.example:8080", no},
	} {
		t.Run(tt.address+" "+tt.host, func(t *testing.T) {
			url := serve(t, httpguard.New(tt.address, "Configured.example"))
			for _, method := range []string{http.MethodGet, http.MethodPost} {
				if got := status(t, method, url, tt.host, nil); got != tt.want {
					t.Errorf("%s: %d, want %d", method, got, tt.want)
				}
			}
		})
	}
}

func TestOtherSites(t *testing.T) {
	url := serve(t, httpguard.New("127.0.0.1:0"))
	for _, tt := range []struct {
		headers   map[string]string
		get, post int
	}{
		{nil, 200, 200}, // curl
		{map[string]string{"Origin": url}, 200, 200},
		{map[string]string{"Sec-Fetch-Site": "same-origin"}, 200, 200},
		{map[string]string{"Sec-Fetch-Site": "none"}, 200, 200}, // a typed URL or a bookmark
		{map[string]string{"Origin": "https://evil.example"}, 200, 403},
		{map[string]string{"Origin": "null"}, 200, 403},
		{map[string]string{"Origin": "http://127.0.0.1:1"}, 200, 403}, // another server on this machine
		{map[string]string{"Sec-Fetch-Site": "cross-site"}, 200, 403},
		{map[string]string{"Sec-Fetch-Site": "same-site", "Origin": "http://localhost:1"}, 200, 403},
	} {
		t.Run(fmt.Sprint(tt.headers), func(t *testing.T) {
			if got := status(t, http.MethodGet, url, "", tt.headers); got != tt.get {
				t.Errorf("GET: %d, want %d", got, tt.get)
			}
			for _, method := range []string{http.MethodPost, http.MethodDelete, http.MethodPut} {
				if got := status(t, method, url, "", tt.headers); got != tt.post {
					t.Errorf("%s: %d, want %d", method, got, tt.post)
				}
			}
		})
	}
}
