package configs

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The webhooks of the reference are commented out. They must load when uncommented, with the secret
// from its file.
func TestReferenceWebhooksLoad(t *testing.T) {
	text, err := os.ReadFile("wxcourier.yaml")
	if err != nil {
		t.Fatal(err)
	}
	head, rest, found := strings.Cut(string(text), "webhooks: []\n")
	list, tail, ended := strings.Cut(rest, "\n\n")
	if !found || !ended {
		t.Fatal("there is no empty list of webhooks")
	}
	secret := filepath.Join(t.TempDir(), "secret")
	write(t, secret, hidden+"-long-enough\n")
	list = strings.Replace(regexp.MustCompile(`(?m)^#`).ReplaceAllString(list, ""), "/run/secrets/webhook-crm", secret, 1)
	cfg, err := Load(file(t, head+"webhooks:\n"+list+"\n\n"+tail), nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(cfg.Webhooks) != 1 || cfg.Webhooks[0].Secret.Reveal() != hidden+"-long-enough" || len(cfg.Webhooks[0].Types) != 2 {
		t.Errorf("%+v", cfg.Webhooks)
	}
}

// Mistakes of webhooks are reported with their lines, and without the secret.
func TestWebhookMistakes(t *testing.T) {
	const good = "  - {name: crm, url: https://crm.example.com, secret: " + hidden + "-long-enough"
	for text, want := range map[string]string{ //nolint:gosec // made up
		good + ", urll: x}\n":                                                       "line 2: webhooks[0].urll: unknown key",
		good + "}\n" + good + "}\n":                                                 "line 3: webhooks[1].name: crm is configured twice; the first is webhooks[0]",
		"  - {name: crm, secret: " + hidden + "}\n":                                 "line 2: webhooks[0].url: required",
		good + ", secret_file: /x}\n":                                               "line 2: webhooks[0].secret_file: set together with webhooks[0].secret: remove one of the two",
		"  - {name: crm, url: https://a.example.com}\n":                             "line 2: webhooks[0].secret: required",
		"  - {name: crm, url: https://a.example.com, secret_file: /no/such/file}\n": "line 2: webhooks[0].secret_file: cannot read the secret",
	} {
		_, err := Load(file(t, "webhooks:\n"+text), nil)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), hidden) ||
			strings.Contains(want, "secret_file: cannot") && strings.Contains(err.Error(), "required") {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
