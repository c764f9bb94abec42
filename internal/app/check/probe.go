package check

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/wxcourier/wxcourier/internal/httpguard"
)

// probeTimeout bounds a probe; container runtimes allow 30 s by default.
const probeTimeout = 3 * time.Second

// Probe requests a URL such as a worker's /readyz, and returns an error unless the answer is 200
// within 3 s. It does not verify the certificate of a server on this machine, which has the name
// that other machines use: the request has no secret.
func Probe(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	client := http.DefaultClient
	if request.URL.Scheme == "https" && httpguard.Loopback(request.URL.Host) {
		transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}} //nolint:gosec // see above
		defer transport.CloseIdleConnections()
		client = &http.Client{Transport: transport}
	}
	response, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("not healthy: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode == http.StatusOK {
		return nil
	}
	body, _ := io.ReadAll(io.LimitReader(response.Body, 200))
	return fmt.Errorf("not healthy: %s: %s", response.Status, body)
}
