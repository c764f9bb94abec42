package dev

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/wxcourier/wxcourier/configs"
	"github.com/wxcourier/wxcourier/internal/hold"
	"github.com/wxcourier/wxcourier/internal/traffic"
	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/tasks"
)

// The sample traffic tells a story, so that the console has something to show from the first minute:
//
//   - a batch is under way: a campaign of subscribe messages, slowed by a limit per second, in which
//     some people have refused, and two openids are wrong; of the accepted messages some are blocked by
//     the person or fail, and some get no receipt
//   - the day's limit of scheme:generate is nearly used: the rest is reserved for urgent tasks, so
//     that the last links of a bulk batch wait for midnight
//   - a template is held by an operator, so that its messages are rejected
//   - an app's mini program codes are held for some minutes
const (
	campaignTasks     = 3000
	campaignPerSecond = 4
	linkTasks         = 420
	linksPerDay       = 500
	linksReserved     = 0.2
	holdTemplateFor   = 3 * time.Hour
	holdCodesFor      = 20 * time.Minute
)

// storyApps are the apps of the sample traffic with the limits of the story.
func storyApps() []configs.App {
	ids := traffic.Apps()
	pushes := configs.Callback{Token: "wxcourierdev", AESKey: "wxcourierdevwxcourierdevwxcourierdevwxcouri"}
	return []configs.App{
		{ID: ids[0], Callback: pushes, Limits: map[string]ratelimit.Limit{tasks.TypeScheme: {PerSecond: 100, PerDay: linksPerDay}}, ReserveUrgent: linksReserved},
		{ID: ids[1], Callback: pushes, Limits: map[string]ratelimit.Limit{tasks.TypeSubscribe: {PerSecond: campaignPerSecond, PerDay: 10_000_000}}},
	}
}

// tellStory enqueues what the story needs beside the sample tasks. Told again, it changes nothing.
func (e *Environment) tellStory(ctx context.Context) error {
	ids, now := traffic.Apps(), time.Now()
	holds := []hold.Hold{
		{App: ids[0], Scope: hold.TemplateScope(traffic.HeldTemplate), Reason: "wording under review", Until: now.Add(holdTemplateFor), By: "dev"},
		{App: ids[0], Scope: tasks.TypeUnlimitedCode, Reason: "page not yet released", Until: now.Add(holdCodesFor), By: "dev"},
	}
	for _, h := range holds {
		if _, err := e.parts.Holds.Set(ctx, h); err != nil {
			return fmt.Errorf("hold %s: %w", h.Scope, err)
		}
	}
	if err := e.parts.SyncPauses(ctx, ids[0]); err != nil {
		return err
	}
	var all []tasks.Envelope
	for n := range linkTasks {
		all = append(all, tasks.Envelope{
			Type: tasks.TypeScheme, App: ids[0], Batch: "links", ID: fmt.Sprintf("links-%d", n), Priority: tasks.Bulk,
			Body: json.RawMessage(fmt.Sprintf(`{"jump_wxa":{"path":"pages/coupon/coupon","query":"id=%d"},"is_expire":true,"expire_type":1,"expire_interval":30}`, n)),
		})
	}
	for n := range campaignTasks {
		all = append(all, traffic.CampaignTask(n))
	}
	for _, r := range e.parts.Tasks.SubmitMany(ctx, all) {
		if r.Err != nil {
			return r.Err
		}
	}
	return nil
}
