package configs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"os"
	"strconv"
	"strings"

	"github.com/wxcourier/wxcourier/internal/consent"
	"github.com/wxcourier/wxcourier/internal/templates"
	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/wechat"
	"github.com/wxcourier/wxcourier/worker"
)

// App is one mini program or official account.
type App struct {
	// ID is the app id, as WeChat's console shows it: ^wx[0-9a-f]{16}$.
	ID string `yaml:"id"`
	// Secret is the app secret.
	Secret wechat.Secret `yaml:"secret"`
	// SecretFile is the path of a file with the secret, used in place of Secret.
	SecretFile string `yaml:"secret_file"`
	// Token is the source of the app's access tokens.
	Token Token `yaml:"token"`
	// Limits replaces documented limits, by task type, path or group.
	Limits map[string]ratelimit.Limit `yaml:"limits"`
	// ReserveUrgent is the share of each daily limit reserved for urgent tasks: with 0.2, bulk
	// tasks stop when a fifth is left. 0 ≤ reserve_urgent < 1.
	ReserveUrgent float64 `yaml:"reserve_urgent"`
	// Hours is the time of day at which tasks may be sent, such as 08:00-22:00 (Asia/Shanghai), by
	// task type, kind ("send:*") or "*".
	Hours worker.Hours `yaml:"hours"`
	// OnlyOpenIDs, when set, are the only receivers of messages; messages to anyone else end as
	// rejected.
	OnlyOpenIDs []string `yaml:"only_openids"`
	// Callback is how WeChat's pushes to the app are read: its console's page of the message push.
	Callback Callback `yaml:"callback"`
	// Consent is what follows from what is known of the consent of the receivers of subscribe messages:
	// "off" (the default), "observe" or "enforce".
	Consent string `yaml:"consent"`
	// Templates is what is checked against the app's message templates when a task is enqueued.
	Templates Templates `yaml:"templates"`
	// Security is the key material of WeChat's API security mode (API 安全). Default none.
	Security wechat.SecurityConfig `yaml:"security"`
}

// Templates is what is checked against an app's message templates, as WeChat lists them, when a task is
// enqueued.
type Templates struct {
	// Check is what happens to a message that does not fit its template: "off" (the default), "warn" (it
	// is enqueued, with a warning) or "reject" (it is not enqueued).
	Check string `yaml:"check"`
	// Fix cuts the value of a field of the kind "thing" that is too long to 20 characters, the last of
	// which is an ellipsis. The result says so.
	Fix bool `yaml:"fix"`
}

// Token is the source of an app's access tokens.
type Token struct {
	// Mode is "stable" (the default), "classic", "external" or "component".
	Mode string `yaml:"mode"`
	// URL is the token service of the mode "external".
	URL string `yaml:"url"`
	// Provider is the app id of the service provider (第三方平台) that calls for the app, one of the
	// list providers; in the mode "component".
	Provider string `yaml:"provider"`
	// RefreshToken is the authorizer_refresh_token of an authorization that another system received;
	// in the mode "component". It is rarely needed: WeChat tells it to the service provider.
	RefreshToken wechat.Secret `yaml:"refresh_token"`
	// RefreshTokenFile is the path of a file with the refresh token, used in place of RefreshToken.
	RefreshTokenFile string `yaml:"refresh_token_file"`
}

// Credential returns what package wechat needs to get a token.
func (a App) Credential() wechat.Credential {
	return wechat.Credential{
		App: a.ID, Secret: a.Secret, Mode: a.Token.Mode, URL: a.Token.URL,
		Provider: a.Token.Provider, RefreshToken: a.Token.RefreshToken,
	}
}

// dropAlternative clears the secret or the secret_file, whichever the variable that was just set
// replaces: a secret from the environment takes precedence over a file of the configuration.
func (a *App) dropAlternative(key string) {
	switch {
	case strings.HasSuffix(key, ".token.refresh_token"):
		a.Token.RefreshTokenFile = ""
	case strings.HasSuffix(key, ".token.refresh_token_file"):
		a.Token.RefreshToken = ""
	case strings.HasSuffix(key, ".secret"):
		a.SecretFile = ""
	case strings.HasSuffix(key, ".secret_file"):
		a.Secret = ""
	}
	for _, file := range []struct {
		key    string
		path   *string
		secret *wechat.Secret
	}{
		{".security.symmetric_key", &a.Security.SymmetricKeyFile, &a.Security.SymmetricKey},
		{".security.private_key", &a.Security.PrivateKeyFile, &a.Security.PrivateKey},
	} {
		switch {
		case strings.HasSuffix(key, file.key):
			*file.path = ""
		case strings.HasSuffix(key, file.key+"_file"):
			*file.secret = ""
		}
	}
	a.Callback.dropAlternative(key)
}

// CountsConsents reports whether the consents of persons are counted: the mode is observe or enforce.
func (a App) CountsConsents() bool {
	return consent.Mode(a.Consent).Counts()
}

func appKey(i int) string { return fmt.Sprintf("apps[%d]", i) }

func (d *decoder) checkApps(apps []App) {
	first := make(map[string]int)
	for i, app := range apps {
		key := appKey(i)
		switch earlier, twice := first[app.ID]; {
		case app.ID == "":
			d.problem(key+".id", "required: the app id, such as wx0123456789abcdef")
		case !tasks.ValidApp(app.ID):
			d.problem(key+".id", `%q is not an app id: "wx" and 16 of the characters 0-9 and a-f`, app.ID)
		case twice:
			d.problem(key+".id", "%s is configured twice; the first is %s", app.ID, d.appPlace(earlier))
		default:
			first[app.ID] = i
		}
		d.checkToken(key, app)
		d.checkTemplates(key, app.Templates)
		d.checkSecurity(key+".security", app)
		d.checkCallback(key+".callback", app)
		d.entryFaults(key+".limits", ratelimit.ValidateLimits(app.Limits))
		hours := maps.Clone(app.Hours)
		maps.DeleteFunc(hours, func(name, _ string) bool { return d.hasProblem(key + ".hours." + name) }) // not a string: already reported
		d.entryFaults(key+".hours", hours.Validate())
		if r := app.ReserveUrgent; !(r >= 0 && r < 1) { // also false for NaN
			d.problem(key+".reserve_urgent", "%v is outside of 0 ≤ reserve_urgent < 1 (0.2 keeps the last fifth of a day's limit for urgent tasks)", r)
		}
		if _, err := worker.ConsentMode(app.Consent); err != nil {
			d.problem(key+".consent", "%v", err)
		}
		for j, openid := range app.OnlyOpenIDs {
			if openid == "" {
				d.problem(fmt.Sprintf("%s.only_openids[%d]", key, j), "an empty openid")
			}
		}
	}
}

// checkTemplates checks the mode of the comparison with templates.
func (d *decoder) checkTemplates(key string, t Templates) {
	switch templates.Check(t.Check) {
	case "", templates.CheckOff, templates.CheckWarn, templates.CheckReject:
	default:
		d.problem(key+".templates.check", "%q is not one of off, warn and reject", t.Check)
	}
}

// Mode returns what a client that enqueues tasks needs to know.
func (t Templates) Mode() templates.Mode {
	return templates.Mode{Check: templates.Check(t.Check), Fix: t.Fix}.Normal()
}

// checkToken checks that the configuration has what the app's token mode requires.
func (d *decoder) checkToken(key string, app App) {
	switch app.Token.Mode {
	case "", wechat.ModeStable, wechat.ModeClassic:
		if app.Secret == "" && !d.hasProblem(key+".secret_file") {
			d.problem(key+".secret", "required: set secret, secret_file or $%s%s_SECRET", appsPrefix, strings.ToUpper(app.ID))
		}
		if app.Token.URL != "" {
			d.problem(key+".token.url", "only the token mode external uses a url")
		}
	case wechat.ModeExternal:
		u, err := url.Parse(app.Token.URL)
		if err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http") {
			d.problem(key+".token.url", "required with the token mode external: the http(s) address of your token service")
		}
	case wechat.ModeComponent:
		d.checkComponent(key, app)
	default:
		d.problem(key+".token.mode", "%q is not one of stable, classic, external and component", app.Token.Mode)
	}
	if app.Token.Mode != wechat.ModeComponent {
		d.checkNoComponent(key, app.Token)
	}
}

// hasProblem reports whether a problem was recorded for a key.
func (d *decoder) hasProblem(key string) bool {
	for _, m := range d.problems {
		if m.Key == key {
			return true
		}
	}
	return false
}

// entryFaults records the faults of a mapping, each of the form `"name": problem`.
func (d *decoder) entryFaults(key string, err error) {
	for _, fault := range flatten(err) {
		text := fault.Error()
		path := key
		if quoted, err := strconv.QuotedPrefix(text); err == nil {
			if name, err := strconv.Unquote(quoted); err == nil {
				path, text = key+"."+name, strings.TrimPrefix(text[len(quoted):], ": ")
			}
		}
		d.problem(path, "%s", text)
	}
}

// secretFiles reads the secrets that are in files.
func (d *decoder) secretFiles(cfg *Config) {
	d.secretFile("redis.password_file", cfg.Redis.PasswordFile, &cfg.Redis.Password)
	for i := range cfg.Apps {
		d.secretFile(appKey(i)+".secret_file", cfg.Apps[i].SecretFile, &cfg.Apps[i].Secret)
		d.secretFile(appKey(i)+".token.refresh_token_file", cfg.Apps[i].Token.RefreshTokenFile, &cfg.Apps[i].Token.RefreshToken)
		d.securityFiles(appKey(i)+".security", &cfg.Apps[i].Security)
		d.callbackFiles(appKey(i)+".callback", &cfg.Apps[i].Callback)
	}
	d.providerFiles(cfg.Providers)
	for i := range cfg.Webhooks {
		d.secretFile(webhookKey(i)+".secret_file", cfg.Webhooks[i].SecretFile, &cfg.Webhooks[i].Secret)
	}
}

// maxSecret is the maximum size of a secret file, in bytes. A larger file is probably the wrong one.
const maxSecret = 4 << 10

// secretFile reads one secret. A newline at the end is not part of it.
func (d *decoder) secretFile(key, path string, into *wechat.Secret) {
	if path == "" {
		return
	}
	if *into != "" {
		d.problem(key, "set together with %s: remove one of the two", strings.TrimSuffix(key, "_file"))
		return
	}
	d.paths = append(d.paths, path)
	text, err := readSecret(path)
	if err != nil {
		d.problem(key, "%v", err)
		return
	}
	*into = wechat.Secret(text)
}

func readSecret(path string) (string, error) {
	text, err := readFile(path, maxSecret)
	if err != nil {
		return "", fmt.Errorf("cannot read the secret: %w", err)
	}
	text = bytes.TrimRight(text, "\r\n")
	switch {
	case len(text) == 0:
		return "", fmt.Errorf("%s is empty", path)
	case len(text) > maxSecret || bytes.ContainsAny(text, "\r\n\x00"):
		return "", errors.New(path + " holds more than a secret on one line")
	}
	return string(text), nil
}

// readFile reads a file, at most one byte more than a maximum.
func readFile(path string, most int64) ([]byte, error) {
	f, err := os.Open(path) //nolint:gosec // the operator names the file
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return io.ReadAll(io.LimitReader(f, most+1))
}
