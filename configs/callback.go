package configs

import (
	"cmp"
	"strings"

	"github.com/wxcourier/wxcourier/gateway/webhook"
	"github.com/wxcourier/wxcourier/internal/suggest"
	"github.com/wxcourier/wxcourier/wechat"
	"github.com/wxcourier/wxcourier/wechat/callback"
)

// Callback is how WeChat's pushes to an app are read and passed on.
type Callback struct {
	// Token is the Token of the message push in WeChat's console.
	Token wechat.Secret `yaml:"token"`
	// TokenFile is the path of a file with the token, used in place of Token.
	TokenFile string `yaml:"token_file"`
	// AESKey is the EncodingAESKey, 43 characters; "" in the plain mode.
	AESKey wechat.Secret `yaml:"aes_key"`
	// AESKeyFile is the path of a file with the key, used in place of AESKey.
	AESKeyFile string `yaml:"aes_key_file"`
	// ForwardURL gets pushes, signed: https, or http for an address in ForwardAllowPrivate. Default none.
	ForwardURL string `yaml:"forward_url"`
	// ForwardSecret signs the calls, as that of a webhook.
	ForwardSecret wechat.Secret `yaml:"forward_secret"`
	// ForwardSecretFile is the path of a file with the secret, used in place of ForwardSecret.
	ForwardSecretFile string `yaml:"forward_secret_file"`
	// Forward is which pushes are forwarded: others, which is those that wxcourier does not handle, or
	// all. Default others.
	Forward string `yaml:"forward"`
	// ForwardAllowPrivate are addresses and networks that ForwardURL may lead to although they are not
	// public. Default none.
	ForwardAllowPrivate []string `yaml:"forward_allow_private"`
}

// The values of Callback.Forward.
const (
	ForwardOthers = "others"
	ForwardAll    = "all"
)

// Configured reports whether pushes to the app are taken.
func (c Callback) Configured() bool { return c.Token != "" }

// Keys returns what verifies and decrypts the pushes to an app.
func (c Callback) Keys(app string) callback.Keys {
	return callback.Keys{App: app, Token: c.Token.Reveal(), AESKey: c.AESKey.Reveal()}
}

// Target returns what is called at ForwardURL.
func (c Callback) Target() webhook.Target {
	return webhook.Target{URL: c.ForwardURL, Secret: c.ForwardSecret, AllowPrivate: c.ForwardAllowPrivate}
}

// dropAlternative is that of App.
func (c *Callback) dropAlternative(key string) {
	for _, s := range c.secrets() {
		switch {
		case strings.HasSuffix(key, ".callback."+s.key):
			*s.path = ""
		case strings.HasSuffix(key, ".callback."+s.key+"_file"):
			*s.secret = ""
		}
	}
}

// callbackSecret is a secret that may be in a file.
type callbackSecret struct {
	key    string
	path   *string
	secret *wechat.Secret
}

func (c *Callback) secrets() []callbackSecret {
	return []callbackSecret{
		{"token", &c.TokenFile, &c.Token}, {"aes_key", &c.AESKeyFile, &c.AESKey}, {"forward_secret", &c.ForwardSecretFile, &c.ForwardSecret},
	}
}

// callbackFiles reads the secrets that are in files.
func (d *decoder) callbackFiles(key string, c *Callback) {
	for _, s := range c.secrets() {
		d.secretFile(key+"."+s.key+"_file", *s.path, s.secret)
	}
}

// checkCallback records the problems of an app's callback.
func (d *decoder) checkCallback(key string, app App) {
	c := app.Callback
	if c.Configured() {
		for _, fault := range flatten(c.Keys(cmp.Or(app.ID, "?")).Validate()) {
			name, problem, _ := strings.Cut(fault.Error(), ": ")
			d.problem(key+"."+name, "%s", problem)
		}
	} else if (c.AESKey != "" || c.ForwardURL != "") && !d.hasProblem(key+".token_file") {
		d.problem(key+".token", "required: the Token of the message push in WeChat's console, or token_file")
	}
	d.checkForward(key, c)
}

// checkForward records the problems of what is forwarded.
func (d *decoder) checkForward(key string, c Callback) {
	modes := []string{ForwardOthers, ForwardAll}
	switch c.Forward {
	case "", ForwardOthers, ForwardAll:
	default:
		text := ""
		if meant, ok := suggest.Name(c.Forward, modes); ok {
			text = "; did you mean " + meant + "?"
		}
		d.problem(key+".forward", "%q is neither others nor all%s", c.Forward, text)
	}
	if c.ForwardURL == "" {
		if c.ForwardSecret != "" || c.Forward != "" || len(c.ForwardAllowPrivate) > 0 {
			d.problem(key+".forward_url", "required with the other keys of forwarding: the address of your own service")
		}
		return
	}
	ours := strings.NewReplacer("allow_private", "forward_allow_private", "secret_file, or secret", "forward_secret_file, or forward_secret",
		"results are to be sent there", "pushes may go there")
	for _, fault := range flatten(c.Target().Validate()) {
		name, problem, _ := strings.Cut(fault.Error(), ": ")
		if name == "secret" && d.hasProblem(key+".forward_secret_file") {
			continue
		}
		d.problem(key+".forward_"+name, "%s", ours.Replace(problem))
	}
}
