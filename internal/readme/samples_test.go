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

// sample returns the first code block of a kind on a page that contains a text.
func sample(t *testing.T, page, kind, holds string) string {
	t.Helper()
	for _, block := range strings.Split(read(t, page), "\n```"+kind+"\n")[1:] {
		block, _, _ = strings.Cut(block, "\n```")
		if strings.Contains(block, holds) {
			return block
		}
	}
	t.Fatalf("%s has no %s sample with %q", page, kind, holds)
	return ""
}

// The configurations that the pages show can be loaded.
func TestConfigSamples(t *testing.T) {
	for _, l := range languages() {
		for _, s := range []struct {
			page, holds, before string
			apps                int
		}{
			{l.readme(), "secret_file:", "", 1},
			{l.doc("cli.md"), "base_url:", "", 2},
			{l.doc("operations.md"), "limits:", "redis: {addrs: [\"127.0.0.1:6379\"]}\napps:\n", 1},
		} {
			secret := filepath.Join(t.TempDir(), "secret")
			if err := os.WriteFile(secret, []byte("an app secret\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			text := s.before + strings.ReplaceAll(sample(t, s.page, "yaml", s.holds), "/run/secrets/wx0123456789abcdef", secret)
			path := filepath.Join(t.TempDir(), "wxcourier.yaml")
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			cfg, err := configs.Load(path, nil)
			if err != nil {
				t.Fatalf("%s: %v", s.page, err)
			}
			if !cfg.Redis.Configured() || len(cfg.Apps) != s.apps || cfg.Apps[0].Secret == "" {
				t.Errorf("%s: the sample with %s is not enough for a worker", s.page, s.holds)
			}
		}
	}
}

// The envelopes that the pages show pass the checks at enqueue.
func TestEnvelopeSamples(t *testing.T) {
	for _, l := range languages() {
		_, line, _ := strings.Cut(sample(t, l.readme(), "sh", "wxcourier enqueue -"), "echo '")
		line, _, _ = strings.Cut(line, "'")
		for page, text := range map[string]string{
			l.readme():        line,
			l.doc("tasks.md"): sample(t, l.doc("tasks.md"), "json", `"process_at"`),
		} {
			e, err := tasks.ParseEnvelope([]byte(text))
			if err != nil {
				t.Fatalf("%s: %v", page, err)
			}
			if err := e.Prepare(time.Date(2026, 11, 30, 0, 0, 0, 0, time.UTC)); err != nil {
				t.Errorf("%s: %v", page, err)
			}
		}
	}
}
