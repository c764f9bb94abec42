package check

import (
	"log/slog"
	"strings"
	"time"

	"github.com/wxcourier/wxcourier/gateway"
	"github.com/wxcourier/wxcourier/internal/apikey"
	"github.com/wxcourier/wxcourier/internal/app"
	"github.com/wxcourier/wxcourier/internal/app/httpserver"
	"github.com/wxcourier/wxcourier/internal/describe"
)

// expiresSoon is how long before their end keys and certificates are reported.
const expiresSoon = 14 * 24 * time.Hour

// gateway checks the files that a gateway reads. Workers do without them: nothing here is a failure.
func (c *checker) gateway(now time.Time) {
	cfg := c.Config.Gateway
	if cfg.KeysFile != "" {
		c.keys(cfg.KeysFile, now)
	}
	c.certificate("gateway.tls", cfg.TLS, now)
	c.certificate("gateway.callback_tls", cfg.CallbackTLS, now)
	c.callbacks()
}

// certificate checks the certificate of a listener, if it has one.
func (c *checker) certificate(subject string, files gateway.TLS, now time.Time) {
	if !files.Configured() {
		return
	}
	certificate, err := httpserver.LoadCertificate(files.CertFile, files.KeyFile, slog.New(slog.DiscardHandler))
	if err != nil {
		c.warn(subject, "%v", err)
		return
	}
	until := certificate.Expires()
	if until.Sub(now) < expiresSoon {
		c.warn(subject, "the certificate expires at %s", until.Format(time.RFC3339))
		return
	}
	c.ok(subject, "the certificate is valid until %s", until.Format(time.RFC3339))
}

// callbacks checks that WeChat's pushes can arrive: they need a listener, and the keys of an app.
func (c *checker) callbacks() {
	const subject = "gateway.callback_listen"
	listen := c.Config.Gateway.CallbackListen
	var with, plain []string
	for _, one := range c.Config.Apps {
		if one.Callback.Configured() {
			with = append(with, one.ID)
			if one.Callback.AESKey == "" {
				plain = append(plain, one.ID)
			}
		}
	}
	switch {
	case listen == "" && len(with) > 0:
		c.warn(subject, "not set, so that no gateway receives WeChat's pushes, although apps have a callback: %s", strings.Join(with, ", "))
	case listen != "" && len(with) == 0:
		c.warn(subject, "no app has a callback: all pushes are refused\nset callback.token_file and callback.aes_key_file of the app")
	case listen != "":
		c.ok(subject, "%s receives the pushes to %s at /callback/APPID", listen, describe.Count(len(with), "app"))
	}
	if listen != "" && len(plain) > 0 {
		c.warn(subject, "the pushes to %s are not encrypted, and their signature does not cover them: choose the safe mode in WeChat's console, and set callback.aes_key_file", strings.Join(plain, ", "))
	}
}

func (c *checker) keys(path string, now time.Time) {
	const subject = "gateway.keys_file"
	keys, err := apikey.List(path)
	if err != nil {
		c.warn(subject, "%v", err)
		return
	}
	for _, k := range keys {
		switch left := k.Expires.Sub(now); {
		case k.Expires.IsZero():
		case left <= 0:
			c.warn(subject, "the key %s has expired; `wxcourier key revoke %s` removes it", k.ID, k.ID)
		case left < expiresSoon:
			c.warn(subject, "the key %s expires at %s", k.ID, k.Expires.Format(time.RFC3339))
		}
		for _, id := range k.Apps {
			if !app.Known(c.Config.Apps, id) {
				c.warn(subject, "the key %s is for the app %s, which is not configured here", k.ID, id)
			}
		}
	}
	if mode, loose := apikey.LooseMode(path); loose {
		c.warn(subject, "other users can read or change %s (mode %04o): chmod 600 it", path, mode)
	}
	c.ok(subject, "%s with %s", path, describe.Count(len(keys), "key"))
}
