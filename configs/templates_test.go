package configs

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/wxcourier/wxcourier/internal/templates"
)

func TestTemplatesOfAnApp(t *testing.T) {
	load := func(lines string) (Config, error) {
		file := filepath.Join(t.TempDir(), "wxcourier.yaml")
		write(t, file, "apps:\n  - id: wx0123456789abcdef\n    secret: s\n    templates: "+lines+"\n")
		return Load(file, nil)
	}
	for lines, want := range map[string]templates.Mode{
		"{}": {}, "{check: off}": {}, "{check: warn}": {Check: templates.CheckWarn}, "{check: reject, fix: true}": {Check: templates.CheckReject, Fix: true},
	} {
		if cfg, err := load(lines); err != nil || cfg.Apps[0].Templates.Mode() != want {
			t.Errorf("%s: %v", lines, err)
		}
	}
	_, err := load("{check: refuse}")
	if err == nil || !strings.Contains(err.Error(), "templates.check") || !strings.Contains(err.Error(), "off, warn and reject") {
		t.Errorf("the error is %v", err)
	}
}
