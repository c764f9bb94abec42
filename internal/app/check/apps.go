package check

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/wxcourier/wxcourier/configs"
	"github.com/wxcourier/wxcourier/internal/app"
	"github.com/wxcourier/wxcourier/internal/asynqwire"
	"github.com/wxcourier/wxcourier/internal/describe"
	"github.com/wxcourier/wxcourier/internal/dispatch"
	"github.com/wxcourier/wxcourier/internal/hold"
	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/wechat"
)

// apps checks for each app that its credentials give a token, and that it is not held. stored
// says that Redis can be used.
func (c *checker) apps(ctx context.Context, stored bool) {
	if len(c.Config.Apps) == 0 && len(c.Config.Providers) == 0 {
		c.warn("apps", "none is configured: a worker has nothing to send")
	}
	for _, one := range c.Config.Apps {
		c.credentials(ctx, one, stored)
		c.app(ctx, one, stored)
	}
}

// credentials asks WeChat or the app's token service for a token, whatever is cached: a token in
// Redis may be older than the credentials, and so may the last failure.
func (c *checker) credentials(ctx context.Context, one configs.App, stored bool) {
	subject := "app " + one.ID
	if one.Token.Mode == wechat.ModeComponent {
		c.authorization(ctx, subject, one, stored)
		return
	}
	if one.Token.Mode == wechat.ModeClassic {
		switch {
		case !c.Force:
			c.warn(subject, "its credentials were not checked: a new classic token would end the one in use\nwxcourier check --force asks for one all the same")
			return
		case !stored:
			c.warn(subject, "its credentials were not checked: a new classic token would end the one in use, and cannot be stored for the workers without their Redis")
			return
		}
	}
	ctx, cancel := context.WithTimeout(ctx, c.Config.WeChat.AttemptTimeout)
	defer cancel()
	if err := c.parts.Tokens.Ask(ctx, one.ID); err != nil {
		server := c.Config.WeChat.BaseURL
		if one.Token.Mode == wechat.ModeExternal {
			server = "its token service"
		}
		c.fail(subject, "%v\n%s", err, cmp.Or(wechat.Advice(err), transientAdvice(server, err)))
		return
	}
	c.ok(subject, "%s", tokenGiven[one.Token.Mode])
}

// tokenGiven is the text about a token that was asked for just now, by the app's token mode.
var tokenGiven = map[string]string{
	"":                  "WeChat gave a token for its credentials",
	wechat.ModeStable:   "WeChat gave a token for its credentials",
	wechat.ModeClassic:  "WeChat gave a new token for its credentials; it is stored for the workers",
	wechat.ModeExternal: "its token service gave a token",
}

// app checks what keeps an app from sending.
func (c *checker) app(ctx context.Context, one configs.App, stored bool) {
	subject := "app " + one.ID
	if len(one.OnlyOpenIDs) > 0 {
		c.warn(subject, "only_openids is set: messages to anyone but %s are rejected", describe.Count(len(one.OnlyOpenIDs), "person"))
	}
	c.security(subject, one)
	if one.CountsConsents() && !one.Callback.Configured() {
		c.warn(subject, "consent is %s, and callback is not configured: wxcourier does not hear what persons accept, unless your services report it (POST /v1/consents/{app}/{openid})", one.Consent)
	}
	if !one.Callback.Configured() {
		c.mediaChecks(ctx, subject, one, stored)
	}
	for _, h := range app.HoursOf(one.ID, one.Hours, time.Now()) {
		c.ok("hours", "%s", h.String())
	}
	if stored {
		c.holds(ctx, one.ID)
	}
}

// mediaChecks warns of an app without a callback that has tasks, or limits, of a type that needs one.
func (c *checker) mediaChecks(ctx context.Context, subject string, one configs.App, stored bool) {
	for _, spec := range tasks.Catalog() {
		_, uses := one.Limits[spec.Type]
		if !spec.Callback {
			continue
		}
		for _, queue := range tasks.QueueNames(one.ID, spec.Type) {
			uses = uses || stored && c.parts.Redis.SIsMember(ctx, asynqwire.Queues, queue).Val()
		}
		if uses {
			c.warn(subject, "it has %s tasks, and callback is not configured: WeChat's verdicts cannot arrive, and the tasks end as unknown after 30 minutes\nset callback.token_file and callback.aes_key_file of the app, and gateway.callback_listen", spec.Type)
		}
	}
}

// certificateNotice is how long before their end the platform certificates are reported.
const certificateNotice = 30 * 24 * time.Hour

// security reports the API security mode of an app.
func (c *checker) security(subject string, one configs.App) {
	if !one.Security.Configured() {
		return
	}
	s, err := wechat.NewSecurity(one.ID, one.Security)
	if err != nil {
		c.fail(subject, "its API security mode: %v", err)
		return
	}
	if end := s.CertificatesEnd(); time.Until(end) < certificateNotice {
		c.warn(subject, "its platform certificate of the API security mode expires on %s\ndownload the new one from WeChat's console, and add it to security.certificates", end.Format(time.DateOnly))
		return
	}
	c.ok(subject, "its API security mode is on")
}

// holds reports the holds of an app. Nothing is sent while the whole app is held.
func (c *checker) holds(ctx context.Context, id string) {
	subject := "app " + id
	holds, err := c.parts.Holds.List(ctx, id)
	if err != nil {
		c.fail(subject, "its holds cannot be read: %v", err)
	}
	for _, h := range holds {
		text := "held: " + describe.Hold(h) + ", by " + h.By
		if remedy := dispatch.Remedy(h); remedy != "" {
			text += "\n" + remedy
		} else if h.Until.IsZero() {
			text += "\nwxcourier release lifts it"
		}
		if h.Scope == hold.WholeApp {
			c.fail(subject, "%s", text)
		} else {
			c.warn(subject, "%s", text)
		}
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
