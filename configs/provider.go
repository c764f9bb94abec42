package configs

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/wechat"
)

// Provider is a service provider (第三方平台): accounts authorize it, and it calls WeChat for them.
type Provider struct {
	// ID is the app id of the service provider, as WeChat's open platform shows it.
	ID string `yaml:"id"`
	// Secret is its AppSecret.
	Secret wechat.Secret `yaml:"secret"`
	// SecretFile is the path of a file with the secret, used in place of Secret.
	SecretFile string `yaml:"secret_file"`
	// Callback is how WeChat's pushes to the service provider, and to the accounts that authorized it,
	// are read: one token and one key for all.
	Callback Callback `yaml:"callback"`
	// AddApps adds the accounts that authorize the service provider and are not among the apps, with
	// the defaults of an app, while the process runs.
	AddApps bool `yaml:"add_apps"`
}

// Credential returns what package wechat needs to get the provider's own token.
func (p Provider) Credential() wechat.Credential {
	return wechat.Credential{App: p.ID, Secret: p.Secret, Mode: wechat.ModeProvider}
}

// App returns an account that authorized the provider and is not among the configured apps.
func (p Provider) App(id string) App {
	app := App{ID: id, Token: Token{Mode: wechat.ModeComponent, Provider: p.ID}}
	app.inheritCallback(p)
	return app
}

// inheritCallback gives an app the callback of the service provider that it has authorized: pushes to
// it are signed and encrypted as those to the provider. It may have a forward_url of its own.
func (a *App) inheritCallback(p Provider) {
	forward := a.Callback
	a.Callback = p.Callback
	if forward.ForwardURL != "" {
		token, aesKey := p.Callback.Token, p.Callback.AESKey
		a.Callback = forward
		a.Callback.Token, a.Callback.AESKey = token, aesKey
	}
}

// inheritCallbacks gives each app of a service provider the provider's callback.
func (d *decoder) inheritCallbacks(cfg *Config) {
	for i := range cfg.Apps {
		app, key := &cfg.Apps[i], appKey(i)+".callback"
		if app.Token.Mode != wechat.ModeComponent {
			continue
		}
		for name, secret := range map[string]wechat.Secret{"token": app.Callback.Token, "aes_key": app.Callback.AESKey} {
			if secret != "" {
				d.problem(key+"."+name, "pushes to an app with the token mode component are read with the callback of its service provider: remove it")
			}
		}
		provider, known := cfg.Provider(app.Token.Provider)
		if known && provider.Callback.Keys(provider.ID).Validate() == nil { // else the fault is reported where it is
			app.inheritCallback(provider)
		}
	}
}

// Provider returns a service provider of the configuration.
func (c Config) Provider(id string) (Provider, bool) {
	i := slices.IndexFunc(c.Providers, func(p Provider) bool { return p.ID == id })
	if i < 0 {
		return Provider{}, false
	}
	return c.Providers[i], true
}

func providerKey(i int) string { return fmt.Sprintf("providers[%d]", i) }

// providerFiles reads the secrets of the service providers that are in files.
func (d *decoder) providerFiles(providers []Provider) {
	for i := range providers {
		p, key := &providers[i], providerKey(i)
		d.secretFile(key+".secret_file", p.SecretFile, &p.Secret)
		d.callbackFiles(key+".callback", &p.Callback)
	}
}

// checkProviders validates the service providers, and that apps name none but them.
func (d *decoder) checkProviders(cfg Config) {
	for i, p := range cfg.Providers {
		key := providerKey(i)
		earlier := slices.IndexFunc(cfg.Providers, func(other Provider) bool { return other.ID == p.ID })
		switch {
		case p.ID == "":
			d.problem(key+".id", "required: the app id of the service provider, such as wx0123456789abcdef")
		case !tasks.ValidApp(p.ID):
			d.problem(key+".id", `%q is not an app id: "wx" and 16 of the characters 0-9 and a-f`, p.ID)
		case earlier < i:
			d.problem(key+".id", "%s is configured twice; the first is %s", p.ID, providerKey(earlier))
		case slices.ContainsFunc(cfg.Apps, func(a App) bool { return a.ID == p.ID }):
			d.problem(key+".id", "%s is among the apps, too: a service provider has an app id of its own", p.ID)
		}
		if p.Secret == "" && !d.hasProblem(key+".secret_file") {
			d.problem(key+".secret", "required: set secret, secret_file or $%s%s_SECRET", providersPrefix, strings.ToUpper(p.ID))
		}
		if p.Callback.Token == "" && !d.hasProblem(key+".callback.token_file") {
			d.problem(key+".callback.token", "required: the token for messages in WeChat's open platform; without the pushes to /callback/%s there is no ticket, and so no token", p.ID)
		}
		if p.Callback.Configured() {
			d.checkCallback(key+".callback", App{ID: p.ID, Callback: p.Callback})
		}
		if p.Callback.AESKey == "" && !d.hasProblem(key+".callback.aes_key_file") {
			d.problem(key+".callback.aes_key", "required: the key for messages in WeChat's open platform, 43 characters; pushes to a service provider are always encrypted")
		}
	}
	for i, app := range cfg.Apps {
		if app.Token.Mode != wechat.ModeComponent || app.Token.Provider == "" {
			continue
		}
		if _, known := cfg.Provider(app.Token.Provider); !known {
			d.problem(appKey(i)+".token.provider", "%q is not among the providers: add it there, with its secret and callback", app.Token.Provider)
		}
	}
}

// checkComponent checks an app whose service provider calls for it.
func (d *decoder) checkComponent(key string, app App) {
	if app.Token.Provider == "" {
		d.problem(key+".token.provider", "required with the token mode component: the app id of the service provider, one of the list providers")
	}
	if app.Secret != "" {
		d.problem(key+".secret", "the token mode component uses no secret of the app: remove it, or use another mode")
	}
	if app.Token.URL != "" {
		d.problem(key+".token.url", "only the token mode external uses a url")
	}
}

// checkNoComponent checks that an app of another mode has no key of the mode component.
func (d *decoder) checkNoComponent(key string, token Token) {
	const only = "only the token mode component uses it"
	if token.Provider != "" {
		d.problem(key+".token.provider", only)
	}
	if token.RefreshToken != "" {
		d.problem(key+".token.refresh_token", only)
	}
}

// providerVariable sets a key of the service provider that the variable names, and adds the provider
// when it is missing. rest is the name after providersPrefix.
func (d *decoder) providerVariable(name, rest, text string, cfg *Config) {
	id, part, found := strings.Cut(rest, "_")
	if !found || part == "" {
		d.problems = append(d.problems, Problem{Variable: name, Message: "write $" + providersPrefix + "<APPID>_SECRET, or another key of a service provider after its id"})
		return
	}
	i := slices.IndexFunc(cfg.Providers, func(p Provider) bool { return p.ID == strings.ToLower(id) })
	if i < 0 {
		cfg.Providers = append(cfg.Providers, Provider{ID: strings.ToLower(id)})
		i = len(cfg.Providers) - 1
	}
	key, provider := providerKey(i), &cfg.Providers[i]
	if _, ok := d.from[key]; !ok {
		d.from[key] = origin{variable: name}
	}
	var known []string
	for _, l := range leavesOf(reflect.ValueOf(provider).Elem(), "") {
		if l.key == "id" {
			continue
		}
		if part == variablePart(l.key) {
			d.variable(name, text, leaf{key + "." + l.key, l.value})
			provider.dropAlternative(l.key)
			return
		}
		known = append(known, providersPrefix+id+"_"+variablePart(l.key))
	}
	d.unknownVariable(name, known)
}

// dropAlternative clears the secret or its file, whichever the variable that was just set replaces.
func (p *Provider) dropAlternative(key string) {
	switch key {
	case "secret":
		p.SecretFile = ""
	case "secret_file":
		p.Secret = ""
	}
	p.Callback.dropAlternative("." + key)
}
