package app

import (
	"time"

	"github.com/wxcourier/wxcourier/tasks"
)

// countReceipt counts a receipt that was joined to its message, in the metrics of the gateway of this
// process.
func (p *Parts) countReceipt(r tasks.Result, sent time.Time) {
	if g := p.gateway.Load(); g != nil {
		g.CountReceipt(r, sent)
	}
}
