package app

import (
	"log/slog"
	"time"

	"github.com/wxcourier/wxcourier/internal/pushes"
	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/worker"
)

// newReceipts makes what joins receipts to their messages. It does no I/O.
func (p *Parts) newReceipts() *pushes.Receipts {
	return pushes.NewReceipts(pushes.ReceiptsDeps{
		Redis: p.Redis, Policy: worker.RecordPolicy(p.Config.Results, p.Config.WeChat.AttemptTimeout), Log: p.Log,
		Apps: func() (apps []string) {
			for _, app := range p.gatewayApps() {
				if app.Receipts {
					apps = append(apps, app.ID)
				}
			}
			return apps
		},
		OnReceipt: p.countReceipt,
		OnOutcome: func(r tasks.Result) {
			if g := p.gateway.Load(); g != nil {
				g.CountOutcome(r)
			}
		},
		OnDropped: func(app string, why pushes.Dropped) {
			p.Log.Debug("a receipt was not joined to a message", slog.String("app", app), slog.String("reason", string(why)))
			if g := p.gateway.Load(); g != nil {
				g.CountDroppedReceipt(app, why)
			}
		},
	})
}

// countReceipt counts a receipt that was joined to its message, in the metrics of the gateway of this
// process.
func (p *Parts) countReceipt(r tasks.Result, sent time.Time) {
	if g := p.gateway.Load(); g != nil {
		g.CountReceipt(r, sent)
	}
}
