package configs

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/wxcourier/wxcourier/ratelimit"
)

const (
	appA = "wx00000000000000aa"
	appB = "wx00000000000000bb"
	appC = "wx00000000000000cc"
)

// folder writes a configuration with a folder of apps, by name, and returns its path.
func folder(t *testing.T, text string, apps map[string]string) string {
	t.Helper()
	path := file(t, text)
	dir := filepath.Join(filepath.Dir(path), "apps.d")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range apps {
		write(t, filepath.Join(dir, name), text)
	}
	return path
}

func TestAppsDir(t *testing.T) {
	path := folder(t, "apps_dir: apps.d\napps:\n  - {id: "+appA+", secret: a}\n", map[string]string{
		"shop.yaml":   "id: " + appB + "\nsecret: b\nlimits:\n  send:custom: {per_second: 5}\n",
		"a b.yaml":    "&x\n{id: " + appC + ", secret: c}\n",
		".shop.yaml":  "not: [an app",
		"README":      "not: [an app",
		"shop.yaml~":  "not: [an app",
		"empty.yaml~": "",
	})
	if err := os.Mkdir(filepath.Join(filepath.Dir(path), "apps.d", "folder.yaml"), 0o700); err != nil {
		t.Fatal(err)
	}
	cfg, paths, err := Read(path, []string{"WXCOURIER_APPS_" + strings.ToUpper(appB) + "_SECRET=from the environment", "WXCOURIER_APPS_WX00000000000000DD_SECRET=d"})
	if err != nil {
		t.Fatal(err)
	}
	want := []App{
		{ID: appA, Secret: "a"},
		{ID: appC, Secret: "c"},
		{ID: appB, Secret: "from the environment", Limits: map[string]ratelimit.Limit{"send:custom": {PerSecond: 5}}},
		{ID: "wx00000000000000dd", Secret: "d"},
	}
	if !reflect.DeepEqual(cfg.Apps, want) {
		t.Errorf("got  %+v\nwant %+v", cfg.Apps, want)
	}
	if len(paths) != 4 { // the file, the folder and two apps
		t.Errorf("read %q", paths)
	}
	moved := file(t, "redis: {db: 1}\n")
	if cfg, err := Load(moved, []string{"WXCOURIER_APPS_DIR=" + filepath.Join(filepath.Dir(path), "apps.d")}); err != nil || len(cfg.Apps) != 2 {
		t.Errorf("by the environment: %+v, %v", cfg.Apps, err)
	}
}

// Mistakes in the folder name the file and the line, and all are reported together.
func TestAppsDirMistakes(t *testing.T) {
	path := folder(t, "apps_dir: apps.d\nredis: {db: x}\napps:\n  - {id: "+appA+", secret: "+hidden+"}\n", map[string]string{
		"1.yaml": "id: " + appA + "\nsecret: " + hidden + "\n",
		"2.yaml": "secret: " + hidden + "\n\nid: " + appB + "\nlimits:\n  send:custm: {per_second: 5}\n",
		"3.yaml": "id: " + appC + "\nsecret: " + hidden + "\ntoken:\n  mod: x\n",
		"4.yaml": "id: " + appC + "\nsecret: " + hidden + "\n",
		"5.yaml": "",
		"6.yaml": "secret: " + hidden + "\n  id: [",
		"7.yaml": "id: " + appB + "\n---\nid: " + appC + "\n",
		"8.yaml": "- id: " + appB + "\n",
	})
	_, err := Load(path, nil)
	var mistakes *Error
	if !errors.As(err, &mistakes) {
		t.Fatal(err)
	}
	dir := filepath.Join(filepath.Dir(path), "apps.d") + "/"
	want := []string{
		`line 2: redis.db: "x" is not a whole number`,
		dir + "1.yaml: line 1: id: " + appA + " is configured twice; the first is apps[0] in line 4",
		dir + `2.yaml: line 5: limits.send:custm: no such task type, path or group; the nearest is "send:custom"`,
		dir + `3.yaml: line 4: token.mod: unknown key; did you mean "mode"?`,
		dir + "4.yaml: line 1: id: " + appC + " is configured twice; the first is in " + dir + "3.yaml",
		dir + "5.yaml: id: required",
		dir + "5.yaml: secret: required",
		dir + "6.yaml: line ",
		dir + "7.yaml: line 1: id: " + appB + " is configured twice; the first is in " + dir + "2.yaml",
		dir + "7.yaml: line 3: a second YAML document",
		dir + "7.yaml: secret: required",
		dir + "8.yaml: line 1: expected keys and values",
	}
	for _, w := range want {
		found := 0
		for _, p := range mistakes.Problems {
			if strings.Contains(p.String(), w) {
				found++
			}
		}
		if found != 1 {
			t.Errorf("%d times: %s", found, w)
		}
	}
	if len(mistakes.Problems) != len(want) {
		t.Errorf("%d mistakes, want %d:\n%v", len(mistakes.Problems), len(want), err)
	}
	if strings.Contains(err.Error(), hidden) {
		t.Errorf("the error contains a secret:\n%v", err)
	}
}

func TestNoAppsDir(t *testing.T) {
	_, err := Load(file(t, "redis: {db: 0}\napps_dir: nowhere\n"), nil)
	if err == nil || !strings.Contains(err.Error(), "line 2: apps_dir: cannot read the folder: open ") {
		t.Error(err)
	}
}

func TestCompare(t *testing.T) {
	load := func(text string) Config {
		t.Helper()
		cfg, err := Load(file(t, text), nil)
		if err != nil {
			t.Fatal(err)
		}
		return cfg
	}
	before := load("redis: {addrs: [\"h:1\"]}\napps:\n  - {id: " + appA + ", secret: " + hidden + ", limits: {links: {per_day: 5}}, hours: {\"send:*\": \"08:00-22:00\"}}\n  - {id: " + appB + ", secret: b}\n")
	same := load("redis: {addrs: [\"h:1\"]}\napps:\n  - {id: " + appB + ", secret: b}\n  - {id: " + appA + ", secret: " + hidden + ", limits: {links: {per_day: 5}}, hours: {\"send:*\": \"08:00-22:00\"}}\n")
	after := load("redis: {addrs: [\"h:2\"], db: 0}\nwechat: {timeout: 9s}\napps:\n  - {id: " + appC + ", secret: c}\n  - {id: " + appA + ", secret: other, limits: {links: {per_day: 5, per_second: 1}}, hours: {\"*\": \"08:00-22:00\"}, only_openids: [\"o\"]}\n")
	if c := Compare(before, same); !c.None() || before.Hash() != same.Hash() {
		t.Errorf("another order: %+v, %s and %s", c, before.Hash(), same.Hash())
	}
	want := Changes{
		Added: []string{appC}, Removed: []string{appB},
		Changed: []AppChange{{appA, []string{"hours.*", "hours.send:*", "limits.links.per_second", "only_openids", "secret"}}},
		Keys:    []string{"redis.addrs", "wechat.timeout"},
	}
	if got := Compare(before, after); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if before.Hash() == after.Hash() || len(before.Hash()) != 8 {
		t.Errorf("hashes %s and %s", before.Hash(), after.Hash())
	}
	reset := before
	reset.Apps = []App{before.Apps[0], before.Apps[1]}
	reset.Apps[1].Secret = "b2"
	if reset.Hash() == before.Hash() {
		t.Error("a changed secret has the same hash")
	}
	if c := Compare(before, reset); len(c.Changed) != 1 || !c.Changed[0].Touches("secret") || c.Changed[0].Touches("limits", "secret_file") {
		t.Errorf("%+v", c)
	}
}
