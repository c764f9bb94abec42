package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"
)

type healthcheckCommand struct {
	URL string `arg:"" optional:"" default:"http://127.0.0.1:9090/readyz" help:"URL to request (default ${default})."`
}

// probeTimeout bounds a probe; container runtimes allow 30 s by default.
const probeTimeout = 3 * time.Second

func (healthcheckCommand) Help() string {
	return `Requests a worker's /readyz: exit status 0 when the worker is ready, 1 when it is not. For container images without a shell and curl.

Examples:
    wxcourier healthcheck
    wxcourier healthcheck http://127.0.0.1:9090/healthz`
}

// Run makes one request.
func (c *healthcheckCommand) Run(p *program) error {
	ctx, cancel := context.WithTimeout(p.ctx, probeTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.URL, nil)
	if err != nil {
		return usageErrorf("healthcheck: %v", err)
	}
	response, err := http.DefaultClient.Do(request)
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
