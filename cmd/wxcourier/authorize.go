package main

import (
	"fmt"
	"net/url"
	"time"

	"github.com/wxcourier/wxcourier/configs"
	"github.com/wxcourier/wxcourier/wechat"
)

type authorizeCommand struct {
	Provider string `placeholder:"ID" help:"The service provider. Default: the only one that is configured."`
	Redirect string `required:"" placeholder:"URL" help:"Where WeChat leads the administrator afterwards: a page of the domain that the open platform has for authorizations (授权发起页域名)."`
	App      string `placeholder:"ID" help:"The account that is to authorize. Default: the administrator chooses."`
	Kind     string `enum:"any,account,miniprogram" default:"any" placeholder:"KIND" help:"The accounts that are offered: any, account (official accounts) or miniprogram."`
	JSON     bool   `help:"Print JSON."`
}

func (authorizeCommand) Help() string {
	return `Asks WeChat for a pre-auth code of a service provider, and prints the links with which the administrator of one account authorizes it. The code is valid for some minutes and for one account.

The first link is opened in WeChat, on the administrator's phone. The second shows a QR code in a browser; WeChat accepts it only from a click on a page of the domain of --redirect.

The page at --redirect needs to do nothing: WeChat pushes the event "authorized" to the service provider's callback, and the gateway that receives it exchanges its code. With add_apps the account is served some seconds later.

Examples:
    wxcourier authorize --redirect https://www.example.com/welcome
    wxcourier authorize --redirect https://www.example.com/welcome --app wx0123456789abcdef --json`
}

// authorizationLinks is the output of authorize --json.
type authorizationLinks struct {
	Provider  string    `json:"provider"`
	Phone     string    `json:"phone"`
	Browser   string    `json:"browser"`
	ExpiresAt time.Time `json:"expires_at"`
}

// Run prints the links for an authorization.
func (c *authorizeCommand) Run(p *program) error {
	redirect, err := url.Parse(c.Redirect)
	if err != nil || redirect.Scheme != "https" && redirect.Scheme != "http" || redirect.Host == "" {
		return usageErrorf("--redirect: not a URL such as https://www.example.com/welcome")
	}
	if c.App != "" {
		if err := validApps([]string{c.App}); err != nil {
			return err
		}
	}
	parts, err := p.connect("authorize")
	if err != nil {
		return err
	}
	defer parts.Close()
	provider, err := c.provider(parts.Config.Providers, p.configName())
	if err != nil {
		return err
	}
	code, err := parts.Tokens.PreAuthCode(p.ctx, provider)
	if err != nil {
		if advice := wechat.Advice(err); advice != "" {
			err = fmt.Errorf("%w: %s", err, advice)
		}
		return p.unlessInterrupted(err)
	}
	link := wechat.AuthorizationLink{Provider: provider, Code: code.Value, Redirect: c.Redirect, Kind: c.kind(), App: c.App}
	if c.JSON {
		return p.printJSON(authorizationLinks{provider, link.Phone(), link.Browser(), code.ExpiresAt})
	}
	_, err = fmt.Fprintf(p.stdout, "In WeChat, on the phone of the account's administrator:\n%s\n\nIn a browser, by a click on a page of %s:\n%s\n\nFor one account, until %s.\n",
		link.Phone(), redirect.Hostname(), link.Browser(), code.ExpiresAt.Local().Format(time.TimeOnly))
	return err
}

// provider returns the service provider that is meant.
func (c *authorizeCommand) provider(configured []configs.Provider, file string) (string, error) {
	switch {
	case len(configured) == 0:
		return "", usageErrorf("no service provider is configured in %s: add it to providers", file)
	case c.Provider == "" && len(configured) > 1:
		return "", usageErrorf("--provider: name one of the %d service providers in %s", len(configured), file)
	case c.Provider == "":
		return configured[0].ID, nil
	}
	for _, p := range configured {
		if p.ID == c.Provider {
			return p.ID, nil
		}
	}
	return "", usageErrorf("--provider: %s is not among the providers in %s", c.Provider, file)
}

func (c *authorizeCommand) kind() wechat.AuthorizationKind {
	switch c.Kind {
	case "account":
		return wechat.AuthorizeAccounts
	case "miniprogram":
		return wechat.AuthorizeMiniPrograms
	}
	return wechat.AuthorizeAny
}
