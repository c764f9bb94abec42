package check

import (
	"cmp"
	"context"
	"time"

	"github.com/wxcourier/wxcourier/configs"
	"github.com/wxcourier/wxcourier/wechat"
)

// ticketOverdue is the age of a service provider's last ticket that is reported: WeChat pushes one every
// ten minutes, and each is valid for twelve hours.
const ticketOverdue = time.Hour

// providers checks for each service provider that WeChat's tickets come, and that it gets a token. stored
// says that Redis can be used.
func (c *checker) providers(ctx context.Context, stored bool) {
	for _, one := range c.Config.Providers {
		subject := "provider " + one.ID
		if c.Config.Gateway.CallbackListen == "" {
			c.warn(subject, "gateway.callback_listen is not set here: WeChat's pushes must reach /callback/%s of some gateway", one.ID)
		}
		if !stored {
			c.warn(subject, "not checked: its ticket is in the Redis of the workers")
			continue
		}
		c.provider(ctx, subject, one)
	}
}

func (c *checker) provider(ctx context.Context, subject string, one configs.Provider) {
	ctx, cancel := context.WithTimeout(ctx, c.Config.WeChat.AttemptTimeout)
	defer cancel()
	ticket, err := c.parts.Tokens.TicketTime(ctx, one.ID)
	switch age := time.Since(ticket).Round(time.Minute); {
	case err != nil:
		c.fail(subject, "%v", err)
		return
	case ticket.IsZero():
		c.fail(subject, "no component_verify_ticket came within the last twelve hours\n%s", wechat.Advice(wechat.ErrNoTicket))
		return
	case age > ticketOverdue:
		c.warn(subject, "the last component_verify_ticket is of %s, and is valid for twelve hours: WeChat pushes one every ten minutes\n%s",
			ticket.Format(time.RFC3339), wechat.Advice(wechat.ErrNoTicket))
	}
	if !c.gives(ctx, subject, one.ID) {
		return
	}
	c.ok(subject, "its ticket is of %s, and WeChat gives it a token", ticket.Format(time.RFC3339))
}

// gives reports whether there is a token for an app: the shared one, or a new one, which is stored for
// the workers. With Force it asks for a new one.
func (c *checker) gives(ctx context.Context, subject, id string) bool {
	var err error
	if c.Force {
		err = c.parts.Tokens.Ask(ctx, id)
	} else {
		_, err = c.parts.Tokens.Token(ctx, id)
	}
	if err != nil {
		c.fail(subject, "%v\n%s", err, cmp.Or(wechat.Advice(err), transientAdvice(c.Config.WeChat.BaseURL, err)))
	}
	return err == nil
}

// authorization checks that an app whose service provider calls for it gets a token.
func (c *checker) authorization(ctx context.Context, subject string, one configs.App, stored bool) {
	if !stored {
		c.warn(subject, "not checked: its authorization is in the Redis of the workers")
		return
	}
	ctx, cancel := context.WithTimeout(ctx, c.Config.WeChat.AttemptTimeout)
	defer cancel()
	if c.gives(ctx, subject, one.ID) {
		c.ok(subject, "its authorization of the service provider %s gives a token", one.Token.Provider)
	}
}
