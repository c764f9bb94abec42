package configs

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

func TestReferenceHasDefaults(t *testing.T) {
	cfg, err := Load("wxcourier.yaml", nil)
	if err != nil {
		t.Fatal(err)
	}
	if want := Default(); !reflect.DeepEqual(cfg, want) {
		t.Errorf("wxcourier.yaml has\n%+v\nthe defaults are\n%+v", cfg, want)
	}
}

func TestReferenceHasEveryKey(t *testing.T) {
	text, err := os.ReadFile("wxcourier.yaml")
	if err != nil {
		t.Fatal(err)
	}
	cfg, d := Default(), newDecoder()
	d.file(text, &cfg)
	for _, l := range leavesOf(reflect.ValueOf(&cfg).Elem(), "") {
		if _, ok := d.from[l.key]; !ok {
			t.Errorf("%s is missing", l.key)
		}
	}
	if _, ok := d.from["apps"]; !ok {
		t.Error("apps is missing")
	}
}

// The apps of the reference are commented out. They must load when uncommented.
func TestReferenceAppsLoad(t *testing.T) {
	text, err := os.ReadFile("wxcourier.yaml")
	if err != nil {
		t.Fatal(err)
	}
	head, apps, found := strings.Cut(string(text), "apps: []\n")
	if !found {
		t.Fatal("there is no empty list of apps")
	}
	apps = regexp.MustCompile(`(?m)^#`).ReplaceAllString(apps, "")
	secret := filepath.Join(t.TempDir(), "secret")
	write(t, secret, "s3cret\n")
	for suffix, text := range map[string]string{
		"-callback-token": "token123\n", "-callback-aes": strings.Repeat("a", 43), "-callback-forward": "a-secret-that-is-long-enough-0123456789",
	} {
		file := filepath.Join(t.TempDir(), "secret")
		write(t, file, text)
		apps = strings.Replace(apps, "/run/secrets/wx0123456789abcdef"+suffix, file, 1)
	}
	apps = strings.Replace(apps, "/run/secrets/wx0123456789abcdef", secret, 1)
	file := filepath.Join(t.TempDir(), "wxcourier.yaml")
	write(t, file, head+"apps:\n"+apps)
	cfg, err := Load(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(cfg.Apps) != 2 || cfg.Apps[0].Secret.Reveal() != "s3cret" || cfg.Apps[0].Limits["links"].PerDay != 1_000_000 ||
		cfg.Apps[0].Limits["scheme:generate"].Concurrency != 32 || cfg.Apps[0].Hours["send:*"] != "08:00-22:00" || cfg.Apps[1].Token.URL == "" ||
		cfg.Apps[0].Callback.Token.Reveal() != "token123" || len(cfg.Apps[0].Callback.AESKey) != 43 || cfg.Apps[0].Callback.ForwardSecret == "" {
		t.Errorf("%+v", cfg.Apps)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil { //nolint:gosec // a path of the test's own
		t.Fatal(err)
	}
}

// The service providers of the reference are commented out. They must load when uncommented.
func TestReferenceProvidersLoad(t *testing.T) {
	text, err := os.ReadFile("wxcourier.yaml")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(text), "providers: []\n")
	if !found {
		t.Fatal("there is no empty list of service providers")
	}
	rest, _, _ = strings.Cut(rest, "\n\n")
	rest = regexp.MustCompile(`(?m)^#`).ReplaceAllString(rest, "")
	dir := t.TempDir()
	for name, secret := range map[string]string{"provider-token": "token123", "provider-aes": strings.Repeat("a", 43), "provider": "s3cret"} {
		write(t, filepath.Join(dir, name), secret+"\n")
	}
	rest = strings.ReplaceAll(rest, "/run/secrets/", dir+"/")
	file := filepath.Join(t.TempDir(), "wxcourier.yaml")
	write(t, file, "providers:\n"+rest+"\napps:\n  - id: wx0123456789abcdef\n    token: {mode: component, provider: wxfedcba9876543210}\n")
	cfg, err := Load(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	if p, known := cfg.Provider("wxfedcba9876543210"); !known || p.Secret.Reveal() != "s3cret" || !p.AddApps || len(cfg.Apps[0].Callback.AESKey) != 43 {
		t.Errorf("%+v", cfg)
	}
}
