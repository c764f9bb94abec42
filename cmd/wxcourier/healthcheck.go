package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"
)

type healthcheckCommand struct {
	URL string `arg:"" optional:"" default:"http://127.0.0.1:9090/readyz" help:"What to ask (default ${default})."`
}

// probeTimeout bounds a probe; container runtimes give it 30 s by default.
const probeTimeout = 3 * time.Second

func (healthcheckCommand) Help() string {
	return `Asks a worker's /readyz, for container runtimes whose images have no shell and no curl: status 0 when it is ready, 1 when it is not.

Examples:
    wxcourier healthcheck
    wxcourier healthcheck http://127.0.0.1:9090/healthz`
}

// Run asks once.
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
	why, _ := io.ReadAll(io.LimitReader(response.Body, 200))
	return fmt.Errorf("not healthy: %s: %s", response.Status, why)
}
