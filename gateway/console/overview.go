package console

import (
	"context"

	"github.com/wxcourier/wxcourier/internal/inspect"
)

func (c *Console) overviewPage() page {
	return page{name: "overview", path: "/", nav: true, live: true, load: c.loadOverview}
}

// overview is the data of the overview.
type overview struct {
	State inspect.State
}

func (c *Console) loadOverview(r *request) (any, error) {
	state, err := c.state(r.Context())
	return overview{State: state}, err
}

// state reads the state of all apps, once for all viewers.
func (c *Console) state(ctx context.Context) (inspect.State, error) {
	return shared(ctx, c, "state", func(ctx context.Context) (inspect.State, error) {
		var configured []string
		for _, app := range c.Apps() {
			configured = append(configured, app.ID)
		}
		return c.Reader.Read(ctx, configured, nil)
	})
}
