// Package check says whether the parts of a deployment work: the settings of Redis, the credentials of
// each app, the keys of the gateway, queues that no worker reads, and tasks that were deleted in asynq. It reports findings;
// the caller prints them.
//
//	err := check.Run(ctx, check.Options{
//		Config: cfg, Log: log, OnFinding: func(f check.Finding) { fmt.Println(f.Subject, f.Text) },
//	})
package check

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/wxcourier/wxcourier/configs"
	"github.com/wxcourier/wxcourier/internal/app"
	"github.com/wxcourier/wxcourier/internal/describe"
	"github.com/wxcourier/wxcourier/internal/inspect"
	"github.com/wxcourier/wxcourier/wechat"
)

// Level says whether a finding needs an operator.
type Level int

// The levels. Only a Failure keeps a worker from its work.
const (
	OK Level = iota
	Warning
	Failure
)

// Finding is the result of one check.
type Finding struct {
	Level   Level
	Subject string // what was checked, such as "redis appendonly"
	Text    string // what was found and, on later lines, advice; may contain text from outside, unescaped
}

// Options configures Run. Config and OnFinding are required.
type Options struct {
	// Config is a valid configuration. Without a configured Redis the apps are checked with one
	// inside the process.
	Config configs.Config
	Log    *slog.Logger
	// Repair ends tasks that asynq no longer has, and deletes old archived copies.
	Repair bool
	// Confirm is the time between the two passes of a repair, and the minimum age of the tasks
	// that are examined; 0 is 15 s. It must exceed the time that a producer takes between
	// marking a task and enqueuing it.
	Confirm time.Duration
	// Force also asks for a new classic token, which ends the one in use.
	Force bool
	// OnFinding is called with each finding as soon as it is known.
	OnFinding func(Finding)
	// OnConfirm, if set, is called before a repair waits for its second pass.
	OnConfirm func(missing int, wait time.Duration)
}

// checker is one execution of Run.
type checker struct {
	Options
	parts  *app.Parts
	failed int // findings of level Failure
}

// Run checks everything that a worker needs. The findings say what is wrong; the error is about Run
// itself: a Redis inside the process did not start.
func Run(ctx context.Context, o Options) error {
	c := &checker{Options: o}
	if genuine := wechat.DefaultConfig().BaseURL; c.Config.WeChat.BaseURL != genuine {
		c.warn("wechat.base_url", "%s is not %s: messages reach users only if that server forwards them", c.Config.WeChat.BaseURL, genuine)
	}
	shared := c.Config.Redis.Configured()
	if !shared {
		c.warn("redis", "not configured: worker, enqueue and run (without --sandbox or --journal) need redis.addrs")
		stop, err := app.StartPrivateRedis(&c.Config) // nothing is written to a Redis that is not configured
		if err != nil {
			return err
		}
		defer stop()
	}
	parts, err := app.New(c.Config, c.Log, nil)
	if err != nil {
		return err
	}
	defer parts.Close() //nolint:contextcheck // the clean-up does not end with ctx
	c.parts = parts
	stored := shared && c.redis(ctx)
	c.providers(ctx, stored)
	c.apps(ctx, stored)
	c.gateway(time.Now())
	if stored {
		c.orphans(ctx)
		c.deleted(ctx)
		c.results(ctx)
	}
	return nil
}

func (c *checker) ok(subject, format string, args ...any) { c.report(OK, subject, format, args...) }

func (c *checker) warn(subject, format string, args ...any) {
	c.report(Warning, subject, format, args...)
}

func (c *checker) fail(subject, format string, args ...any) {
	c.failed++
	c.report(Failure, subject, format, args...)
}

func (c *checker) report(level Level, subject, format string, args ...any) {
	c.OnFinding(Finding{level, subject, fmt.Sprintf(format, args...)})
}

// orphans reports queues with tasks of apps that are not configured.
func (c *checker) orphans(ctx context.Context) {
	known := make(map[string]bool)
	for _, app := range c.Config.Apps {
		known[app.ID] = true
	}
	lanes, err := inspect.Lanes(ctx, c.parts.Redis, nil)
	if err != nil {
		c.fail("queues", "%v", err)
		return
	}
	for _, lane := range lanes {
		if n := lane.Waiting + lane.Bulk + lane.Scheduled + lane.Retrying; !known[lane.App] && n > 0 {
			c.warn("queue "+lane.App+":"+lane.Type, "%s, but the app is not configured here", describe.Count(int(n), "task"))
		}
	}
}
