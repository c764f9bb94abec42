package main

import (
	"net/url"

	"github.com/wxcourier/wxcourier/internal/app/check"
)

type healthcheckCommand struct {
	URL string `arg:"" optional:"" default:"http://127.0.0.1:9090/readyz" help:"URL to request (default ${default})."`
}

func (healthcheckCommand) Help() string {
	return `Requests the /readyz of a worker or a gateway: exit status 0 when it is ready, 1 when it is not. For container images without a shell and curl. The certificate of a gateway with TLS on this machine is not verified.

Examples:
    wxcourier healthcheck
    wxcourier healthcheck http://127.0.0.1:8080/readyz
    wxcourier healthcheck http://127.0.0.1:9090/healthz`
}

// Run makes one request.
func (c *healthcheckCommand) Run(p *program) error {
	if _, err := url.Parse(c.URL); err != nil {
		return usageErrorf("healthcheck: %v", err)
	}
	return check.Probe(p.ctx, c.URL)
}
