package readme

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/wxcourier/wxcourier/configs"
	"github.com/wxcourier/wxcourier/tasks"
)

// sample is the first block of a language in a README that holds a text.
func sample(t *testing.T, l language, kind, holds string) string {
	t.Helper()
	for _, block := range strings.Split(read(t, l.file), "\n```"+kind+"\n")[1:] {
		block, _, _ = strings.Cut(block, "\n```")
		if strings.Contains(block, holds) {
			return block
		}
	}
	t.Fatalf("%s has no %s sample with %q", l.file, kind, holds)
	return ""
}

// The configurations that the READMEs show load.
func TestConfigSamples(t *testing.T) {
	for _, l := range languages() {
		secret := filepath.Join(t.TempDir(), "secret")
		if err := os.WriteFile(secret, []byte("an app secret\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		for holds, apps := range map[string]int{"secret_file:": 1, "base_url:": 2} {
			text := strings.ReplaceAll(sample(t, l, "yaml", holds), "/run/secrets/wx0123456789abcdef", secret)
			path := filepath.Join(t.TempDir(), "wxcourier.yaml")
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			cfg, err := configs.Load(path, nil)
			if err != nil {
				t.Fatalf("%s: %v", l.file, err)
			}
			if !cfg.Redis.Configured() || len(cfg.Apps) != apps || cfg.Apps[0].Secret == "" {
				t.Errorf("%s: the sample with %s is not enough for a worker", l.file, holds)
			}
		}
	}
}

// The envelope that the READMEs show passes the door.
func TestEnvelopeSample(t *testing.T) {
	for _, l := range languages() {
		e, err := tasks.ParseEnvelope([]byte(sample(t, l, "json", `"process_at"`)))
		if err != nil {
			t.Fatalf("%s: %v", l.file, err)
		}
		if err := e.Prepare(time.Date(2026, 11, 30, 0, 0, 0, 0, time.UTC)); err != nil {
			t.Errorf("%s: %v", l.file, err)
		}
	}
}
