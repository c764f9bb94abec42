package check

import (
	"log/slog"
	"time"

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
	if !cfg.TLS.Configured() {
		return
	}
	certificate, err := httpserver.LoadCertificate(cfg.TLS.CertFile, cfg.TLS.KeyFile, slog.New(slog.DiscardHandler))
	if err != nil {
		c.warn("gateway.tls", "%v", err)
		return
	}
	until := certificate.Expires()
	if until.Sub(now) < expiresSoon {
		c.warn("gateway.tls", "the certificate expires at %s", until.Format(time.RFC3339))
		return
	}
	c.ok("gateway.tls", "the certificate is valid until %s", until.Format(time.RFC3339))
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
