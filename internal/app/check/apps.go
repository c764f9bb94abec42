package check

import (
	"context"
	"errors"
	"time"

	"github.com/wxcourier/wxcourier/configs"
	"github.com/wxcourier/wxcourier/internal/app"
	"github.com/wxcourier/wxcourier/internal/describe"
	"github.com/wxcourier/wxcourier/wechat"
)

// apps checks for each app that it can get a token. shared is whether Redis is the configured
// one, and not private to this process.
func (c *checker) apps(ctx context.Context, shared bool) {
	if len(c.Config.Apps) == 0 {
		c.warn("apps", "none is configured: a worker has nothing to send")
	}
	for _, one := range c.Config.Apps {
		if one.Token.Mode == wechat.ModeClassic && !shared {
			c.warn("app "+one.ID, "its credentials were not checked: without the shared Redis, fetching a classic token would invalidate the one in use")
			continue
		}
		c.app(ctx, one)
	}
}

// app checks one app: its token, and what keeps it from sending.
func (c *checker) app(ctx context.Context, one configs.App) {
	subject := "app " + one.ID
	tokenCtx, cancel := context.WithTimeout(ctx, c.Config.WeChat.AttemptTimeout)
	defer cancel()
	if _, err := c.parts.Tokens.Token(tokenCtx, one.ID); err != nil {
		advice := wechat.Advice(err)
		if advice == "" {
			advice = transientAdvice(c.Config.WeChat.BaseURL, err)
		}
		c.fail(subject, "%v\n%s", err, advice)
	} else {
		c.ok(subject, "got a token with its credentials")
	}
	if len(one.OnlyOpenIDs) > 0 {
		c.warn(subject, "only_openids is set: messages to anyone but %s are rejected", describe.Count(len(one.OnlyOpenIDs), "person"))
	}
	for _, h := range app.HoursOf(one.ID, one.Hours, time.Now()) {
		c.ok("hours", "%s", h.String())
	}
	holds, err := c.parts.Holds.List(ctx, one.ID)
	if err != nil {
		c.fail(subject, "its holds cannot be read: %v", err)
	}
	for _, h := range holds {
		c.warn(subject, "held: %s", describe.Hold(h))
	}
}

// transientAdvice returns the advice for errors that are not about the app.
func transientAdvice(server string, err error) string {
	var transport *wechat.TransportError
	var answer *wechat.AnswerError
	switch {
	case errors.As(err, &transport):
		return "no connection to " + server + ": check the network, the proxy ($HTTPS_PROXY) and wechat.base_url"
	case errors.As(err, &answer):
		return "the server at " + server + " is not WeChat: check the proxy ($HTTPS_PROXY), the token service and wechat.base_url"
	}
	return "try again in a minute"
}
