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
	"github.com/wxcourier/wxcourier/internal/printable"
	"github.com/wxcourier/wxcourier/wechat"
)

type checkCommand struct {
	Repair bool `help:"End the tasks that asynq does not have any more as canceled, and delete archived copies past results.retention."`
}

func (checkCommand) Help() string {
	return `Tells line by line whether the configuration, Redis and the credentials of each app work, and what to do if not. It asks WeChat for a token of each app, the same one that workers use. The status is 1 when anything failed; warnings alone are no failure.

It also looks for tasks that were deleted in the asynq web UI: nothing sends them, and their producers and batches wait for them. Without --repair nothing is changed. A task that was enqueued less than ten minutes ago is not looked for.

Examples:
    wxcourier check
    wxcourier check --repair
    wxcourier check -c wxcourier.yaml`
}

// findings writes a line for each thing that was looked at.
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

// line indents what has several lines.
func (f *findings) line(mark, what, format string, args ...any) {
	lines := strings.Split(fmt.Sprintf(format, args...), "\n")
	for i := range lines {
		lines[i] = printable.Escape(lines[i])
	}
	text := strings.Join(lines, "\n        ")
	_, _ = fmt.Fprintf(f.p.stdout, "%s  %s: %s\n", mark, what, text)
}

// Run looks at everything that a worker needs.
func (c *checkCommand) Run(p *program) error {
	f := &findings{p: p}
	if cfg, ok := f.configuration(); ok {
		if err := f.checkAll(cfg, c.Repair); err != nil {
			return err
		}
	}
	if f.failed > 0 {
		return errors.New(plural(f.failed, "check") + " failed")
	}
	return nil
}

// checkAll looks at what the configuration leads to.
func (f *findings) checkAll(cfg configs.Config, repair bool) error {
	shared := cfg.Redis.Configured()
	if !shared {
		f.warn("redis", "none is configured: worker, enqueue and run (without --sandbox or --journal) need redis.addrs")
		stop, err := startProtected(&cfg) // tokens need some place
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
			f.warn("apps", "their credentials were not tried: tokens are kept in Redis")
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
	source := "defaults and the environment; there is no " + configs.DefaultFile + " here"
	if path := f.p.configFile(); path != "" {
		source = path
	}
	f.ok("configuration", "%s, %s", source, plural(len(cfg.Apps), "app"))
	if genuine := wechat.DefaultConfig().BaseURL; cfg.WeChat.BaseURL != genuine {
		f.warn("wechat.base_url", "%s is not %s: nothing reaches WeChat's users unless it passes it on", cfg.WeChat.BaseURL, genuine)
	}
	return cfg, true
}

// redis tells whether Redis can be used.
func (f *findings) redis(cfg configs.Config, parts *parts) bool {
	if err := pingRedis(f.p.ctx, cfg.Redis, parts.rdb); err != nil {
		f.fail("redis", "%v", err)
		return false
	}
	failed := f.failed
	f.redisVersion(cfg, parts)
	if err := parts.rdb.Eval(f.p.ctx, `return redis.call("TIME")[1]`, []string{"wxcourier:check"}).Err(); err != nil {
		f.fail("redis scripts", "%v\nwxcourier needs EVAL and EVALSHA: allow them to its user", err)
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
		f.warn("redis", "%s answers, but does not tell its version; 6.2 or later is needed", cfg.Redis.Address())
	case !atLeast62(version):
		f.fail("redis", "%s is Redis %s; 6.2 or later is needed", cfg.Redis.Address(), version)
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
		f.warn("redis maxmemory-policy", "it is not told; see to it that it is noeviction")
	case policy == "noeviction":
		f.ok("redis maxmemory-policy", "noeviction")
	case cfg.Redis.AllowEviction:
		f.warn("redis maxmemory-policy", "%s, which redis.allow_eviction allows: with its memory full, Redis throws tasks away", policy)
	default:
		f.fail("redis maxmemory-policy", "%s: with its memory full, Redis would throw tasks away\nset it to noeviction, or allow it with redis.allow_eviction: true", policy)
	}
	switch aof, err := redisSetting(f.p.ctx, parts.rdb, "appendonly"); {
	case err != nil:
		f.warn("redis appendonly", "it is not told; with it on, a crash of Redis loses a second of tasks at most")
	case aof == "yes":
		f.ok("redis appendonly", "yes")
		f.appendfsync(parts)
	default:
		f.warn("redis appendonly", "%s: a crash of Redis loses the tasks since its last snapshot; set it to yes to keep them", aof)
	}
}

// appendfsync tells how much a power failure takes away.
func (f *findings) appendfsync(parts *parts) {
	switch fsync, err := redisSetting(f.p.ctx, parts.rdb, "appendfsync"); {
	case err != nil:
		f.warn("redis appendfsync", "it is not told; with always, a power failure loses nothing")
	case fsync == "always":
		f.ok("redis appendfsync", "always: a power failure loses nothing that was confirmed")
	case fsync == "everysec":
		f.ok("redis appendfsync", "everysec: a power failure may lose the last second or two, and messages of that time may then arrive twice; always loses none, and is slower")
	default:
		f.warn("redis appendfsync", "%s: a power failure loses what the system had not written yet; set it to everysec or always", fsync)
	}
}

// apps tells for each app whether a token can be had. Redis is shared when it is the
// configured one.
func (f *findings) apps(cfg configs.Config, parts *parts, shared bool) {
	if len(cfg.Apps) == 0 {
		f.warn("apps", "none is configured: a worker has nothing to send for")
	}
	for _, app := range cfg.Apps {
		if app.Token.Mode == wechat.ModeClassic && !shared {
			f.warn("app "+app.ID, "its credentials were not tried: without the Redis that shares its token, a new classic token would end the one in use")
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
		f.ok(what, "its credentials give a token")
	}
	if len(app.OnlyOpenIDs) > 0 {
		f.warn(what, "only_openids lets messages reach %s alone; those to anybody else are rejected", plural(len(app.OnlyOpenIDs), "person"))
	}
	for _, h := range hoursOf(app.ID, app.Hours, time.Now()) {
		f.ok("hours", "%s", h.text())
	}
	holds, err := parts.limiter.Holds(f.p.ctx, app.ID)
	if err != nil {
		f.fail(what, "its holds cannot be read: %v", err)
	}
	for _, h := range holds {
		f.warn(what, "held: %s", holdText(h))
	}
}

// transientAdvice is the advice where nothing about the app is wrong.
func transientAdvice(cfg configs.Config, err error) string {
	var transport *wechat.TransportError
	var answer *wechat.AnswerError
	switch {
	case errors.As(err, &transport):
		return "no connection to " + cfg.WeChat.BaseURL + ": look at the network, the proxy ($HTTPS_PROXY) and wechat.base_url"
	case errors.As(err, &answer):
		return "what answers at " + cfg.WeChat.BaseURL + " is not WeChat: look at the proxy ($HTTPS_PROXY), the token service and wechat.base_url"
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
			f.warn("queue "+lane.App+":"+lane.Type, "%s, and the app is not configured here", plural(int(n), "task"))
		}
	}
}
