package gateway

import "github.com/wxcourier/wxcourier/tasks"

// CountOutcome counts an outcome that a push, or a client's own send, recorded, in metrics and over time.
func (g *Gateway) CountOutcome(r tasks.Result) {
	g.outcomes.WithLabelValues(r.App, r.Type, string(r.Outcome)).Inc()
	g.series.Add(r.App, r.Type, string(r.Outcome), r.ErrCode)
}
