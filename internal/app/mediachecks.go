package app

import (
	"github.com/wxcourier/wxcourier/internal/pushes"
	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/worker"
)

// mediaChecks returns what ends the tasks of media checks with WeChat's verdicts.
func (p *Parts) mediaChecks() *pushes.MediaChecks {
	return pushes.NewMediaChecks(pushes.MediaChecksDeps{
		Redis: p.Redis, Policy: worker.RecordPolicy(p.Config.Results, p.Config.WeChat.AttemptTimeout),
		Log: p.Log, OnOutcome: p.countOutcome,
	})
}

// countOutcome counts an outcome that a push recorded, in the metrics of the gateway of this process.
func (p *Parts) countOutcome(r tasks.Result) {
	if g := p.gateway.Load(); g != nil {
		g.CountOutcome(r)
	}
}
