package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/wxcourier/wxcourier/configs"
	"github.com/wxcourier/wxcourier/internal/backlog"
	"github.com/wxcourier/wxcourier/internal/describe"
	"github.com/wxcourier/wxcourier/internal/printable"
	"github.com/wxcourier/wxcourier/wechat"
)

type checkCommand struct {
	Repair bool `help:"End tasks that asynq no longer has as canceled, and delete archived copies older than results.retention."`
}

func (checkCommand) Help() string {
	return `Checks the configuration, Redis and the credentials of each app, and prints one line per check with advice on failures. For each app it fetches the token that workers use from WeChat. The exit status is 1 when a check failed; warnings do not count.

It also searches for tasks that were deleted in the asynq web UI: no worker sends them, and their producers and batches keep waiting. Without --repair nothing is changed. Tasks enqueued less than 15 seconds ago are not examined.

Examples:
    wxcourier check
    wxcourier check --repair
    wxcourier check -c wxcourier.yaml`
}

// findings prints one line per check and counts the failures.
type findings struct {
	p      *program
	failed int
}

func (f *findings) ok(what, format string, args ...any) { f.line("ok  ", what, format, args...) }

func (f *findings) warn(what, format string, args ...any) { f.line("warn", what, format, args...) }

func (f *findings) fail(what, format string, args ...any) {
	f.failed++
	f.line("FAIL", what, format, args...)
}

// line prints one finding; the further lines of a text are indented.
func (f *findings) line(mark, what, format string, args ...any) {
	lines := strings.Split(fmt.Sprintf(format, args...), "\n")
	for i := range lines {
		lines[i] = printable.Escape(lines[i])
	}
	text := strings.Join(lines, "\n        ")
	_, _ = fmt.Fprintf(f.p.stdout, "%s  %s: %s\n", mark, what, text)
}

// Run checks everything that a worker needs.
func (c *checkCommand) Run(p *program) error {
	f := &findings{p: p}
	if cfg, ok := f.configuration(); ok {
		if err := f.checkAll(cfg, c.Repair); err != nil {
			return err
		}
	}
	if f.failed > 0 {
		return errors.New(describe.Count(f.failed, "check") + " failed")
	}
	return nil
}

// checkAll checks Redis, the apps and, in a shared Redis, orphaned queues and deleted tasks.
func (f *findings) checkAll(cfg configs.Config, repair bool) error {
	shared := cfg.Redis.Configured()
	if !shared {
		f.warn("redis", "not configured: worker, enqueue and run (without --sandbox or --journal) need redis.addrs")
		stop, err := startProtected(&cfg) // tokens are stored in Redis
		if err != nil {
			return err
		}
		defer stop()
	}
	parts, err := newParts(cfg, f.p.logger(), credentialsOf(cfg.Apps))
	if err != nil {
		return err
	}
	defer parts.close()
	if shared && !f.redis(cfg, parts) {
		if len(cfg.Apps) > 0 {
			f.warn("apps", "their credentials were not checked: tokens are stored in Redis")
		}
		return nil
	}
	f.apps(cfg, parts, shared)
	if shared {
		f.orphans(cfg, parts)
		f.deleted(cfg, parts, repair)
	}
	return nil
}

func (f *findings) configuration() (configs.Config, bool) {
	cfg, err := f.p.configuration()
	if err != nil {
		f.fail("configuration", "%v", err)
		return cfg, false
	}
	source := "defaults and the environment; no " + configs.DefaultFile + " in this folder"
	if path := f.p.configFile(); path != "" {
		source = path
	}
	f.ok("configuration", "%s, %s", source, describe.Count(len(cfg.Apps), "app"))
	if genuine := wechat.DefaultConfig().BaseURL; cfg.WeChat.BaseURL != genuine {
		f.warn("wechat.base_url", "%s is not %s: messages reach users only if that server forwards them", cfg.WeChat.BaseURL, genuine)
	}
	return cfg, true
}

// redis checks Redis and reports whether it is usable.
func (f *findings) redis(cfg configs.Config, parts *parts) bool {
	if err := pingRedis(f.p.ctx, cfg.Redis, parts.rdb); err != nil {
		f.fail("redis", "%v", err)
		return false
	}
	failed := f.failed
	f.redisVersion(cfg, parts)
	if err := parts.rdb.Eval(f.p.ctx, `return redis.call("TIME")[1]`, []string{"wxcourier:check"}).Err(); err != nil {
		f.fail("redis scripts", "%v\nwxcourier needs EVAL and EVALSHA: allow them for its Redis user", err)
	} else {
		f.ok("redis scripts", "run")
	}
	f.redisSettings(cfg, parts)
	return f.failed == failed
}

func (f *findings) redisVersion(cfg configs.Config, parts *parts) {
	info, err := parts.rdb.Info(f.p.ctx, "server").Result()
	version := infoField(info, "redis_version")
	switch {
	case err != nil || version == "":
		f.warn("redis", "%s answers, but does not report its version; 6.2 or later is required", cfg.Redis.Address())
	case !atLeast62(version):
		f.fail("redis", "%s is Redis %s; 6.2 or later is required", cfg.Redis.Address(), version)
	default:
		f.ok("redis", "%s is Redis %s", cfg.Redis.Address(), version)
	}
}

func infoField(info, name string) string {
	for line := range strings.Lines(info) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

func atLeast62(version string) bool {
	major, rest, _ := strings.Cut(version, ".")
	minor, _, _ := strings.Cut(rest, ".")
	a, errA := strconv.Atoi(major)
	b, errB := strconv.Atoi(minor)
	return errA == nil && errB == nil && (a > 6 || a == 6 && b >= 2)
}

func (f *findings) redisSettings(cfg configs.Config, parts *parts) {
	policy, err := redisSetting(f.p.ctx, parts.rdb, "maxmemory-policy")
	switch {
	case err != nil:
		f.warn("redis maxmemory-policy", "cannot be read; make sure that it is noeviction")
	case policy == "noeviction":
		f.ok("redis maxmemory-policy", "noeviction")
	case cfg.Redis.AllowEviction:
		f.warn("redis maxmemory-policy", "%s, allowed by redis.allow_eviction: when its memory is full, Redis evicts tasks", policy)
	default:
		f.fail("redis maxmemory-policy", "%s: when its memory is full, Redis would evict tasks\nset it to noeviction, or allow it with redis.allow_eviction: true", policy)
	}
	switch aof, err := redisSetting(f.p.ctx, parts.rdb, "appendonly"); {
	case err != nil:
		f.warn("redis appendonly", "cannot be read; when it is on, a crash of Redis loses at most about one second of tasks")
	case aof == "yes":
		f.ok("redis appendonly", "yes")
		f.appendfsync(parts)
	default:
		f.warn("redis appendonly", "%s: a crash of Redis loses all tasks since its last snapshot; set it to yes", aof)
	}
}

// appendfsync reports how much data a power failure loses.
func (f *findings) appendfsync(parts *parts) {
	switch fsync, err := redisSetting(f.p.ctx, parts.rdb, "appendfsync"); {
	case err != nil:
		f.warn("redis appendfsync", "cannot be read; with always, a power failure loses nothing")
	case fsync == "always":
		f.ok("redis appendfsync", "always: a power failure loses nothing that Redis acknowledged")
	case fsync == "everysec":
		f.ok("redis appendfsync", "everysec: a power failure may lose the last second or two, and messages sent in that time may arrive twice; always loses nothing, but is slower")
	default:
		f.warn("redis appendfsync", "%s: a power failure loses all data not yet written to disk; set it to everysec or always", fsync)
	}
}

// apps checks for each app that it can get a token. shared is whether Redis is the configured
// one, and not private to this process.
func (f *findings) apps(cfg configs.Config, parts *parts, shared bool) {
	if len(cfg.Apps) == 0 {
		f.warn("apps", "none is configured: a worker has nothing to send")
	}
	for _, app := range cfg.Apps {
		if app.Token.Mode == wechat.ModeClassic && !shared {
			f.warn("app "+app.ID, "its credentials were not checked: without the shared Redis, fetching a classic token would invalidate the one in use")
			continue
		}
		f.app(cfg, parts, app)
	}
}

func (f *findings) app(cfg configs.Config, parts *parts, app configs.App) {
	what := "app " + app.ID
	ctx, cancel := context.WithTimeout(f.p.ctx, cfg.WeChat.AttemptTimeout)
	defer cancel()
	if _, err := parts.tokens.Token(ctx, app.ID); err != nil {
		advice := wechat.Advice(err)
		if advice == "" {
			advice = transientAdvice(cfg, err)
		}
		f.fail(what, "%v\n%s", err, advice)
	} else {
		f.ok(what, "got a token with its credentials")
	}
	if len(app.OnlyOpenIDs) > 0 {
		f.warn(what, "only_openids is set: messages to anyone but %s are rejected", describe.Count(len(app.OnlyOpenIDs), "person"))
	}
	for _, h := range hoursOf(app.ID, app.Hours, time.Now()) {
		f.ok("hours", "%s", h.text())
	}
	holds, err := parts.limiter.Holds(f.p.ctx, app.ID)
	if err != nil {
		f.fail(what, "its holds cannot be read: %v", err)
	}
	for _, h := range holds {
		f.warn(what, "held: %s", describe.Hold(h))
	}
}

// transientAdvice returns the advice for errors that are not about the app.
func transientAdvice(cfg configs.Config, err error) string {
	var transport *wechat.TransportError
	var answer *wechat.AnswerError
	switch {
	case errors.As(err, &transport):
		return "no connection to " + cfg.WeChat.BaseURL + ": check the network, the proxy ($HTTPS_PROXY) and wechat.base_url"
	case errors.As(err, &answer):
		return "the server at " + cfg.WeChat.BaseURL + " is not WeChat: check the proxy ($HTTPS_PROXY), the token service and wechat.base_url"
	}
	return "try again in a minute"
}

func (f *findings) orphans(cfg configs.Config, parts *parts) {
	known := make(map[string]bool)
	for _, app := range cfg.Apps {
		known[app.ID] = true
	}
	lanes, err := backlog.Read(f.p.ctx, parts.rdb, nil)
	if err != nil {
		f.fail("queues", "%v", err)
		return
	}
	for _, lane := range lanes {
		if n := lane.Waiting + lane.Bulk + lane.Scheduled + lane.Retrying; !known[lane.App] && n > 0 {
			f.warn("queue "+lane.App+":"+lane.Type, "%s, but the app is not configured here", describe.Count(int(n), "task"))
		}
	}
}
