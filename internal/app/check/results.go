package check

import (
	"context"
	"time"

	"github.com/wxcourier/wxcourier/internal/describe"
	"github.com/wxcourier/wxcourier/internal/summary"
	"github.com/wxcourier/wxcourier/tasks"
)

// results reports apps whose results are kept for less than results.retention, because the
// stream has reached results.stream_max_len.
func (c *checker) results(ctx context.Context) {
	inspector, retention := tasks.NewInspector(c.parts.Redis), c.Config.Results.Retention
	cuts := 0
	for _, app := range c.Config.Apps {
		now := time.Now()
		cut, err := inspector.ResultsCut(ctx, app.ID, tasks.Since(now.Add(-retention)))
		if err != nil {
			c.fail("results", "%v", err)
			return
		}
		if cut == nil || !cut.ByLength {
			continue
		}
		cuts++
		c.warn("results of "+app.ID, "go back only %v, to %s, although results.retention is %v: results.stream_max_len, %s, has cut earlier ones\n"+
			"raise it, or set it to 0; an entry takes some 360 bytes of Redis' memory",
			describe.Rounded(now.Sub(cut.Start)), cut.Start.Format(time.RFC3339), retention, summary.Number(int(c.Config.Results.StreamMaxLen)))
	}
	if cuts == 0 && len(c.Config.Apps) > 0 {
		c.ok("results", "kept for results.retention")
	}
}
