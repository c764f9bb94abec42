package browsertest

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/chromedp/chromedp"
)

// axeScript returns the script of axe-core, which npm installs into the user's cache at the version
// of package-lock.json.
var axeScript = sync.OnceValues(func() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	lock, err := os.ReadFile("package-lock.json")
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "wxcourier-tools", "axe-core")
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return "", err
	}
	installed, _ := os.ReadFile(filepath.Join(dir, "package-lock.json")) //nolint:gosec // our own folder
	script := filepath.Join(dir, "node_modules", "axe-core", "axe.min.js")
	if _, err := os.Stat(script); err != nil || !slices.Equal(installed, lock) {
		for _, name := range []string{"package.json", "package-lock.json"} {
			content, err := os.ReadFile(name) //nolint:gosec // one of two names
			if err != nil {
				return "", err
			}
			if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
				return "", err
			}
		}
		install := exec.Command("npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--prefer-offline")
		install.Dir = dir
		if out, err := install.CombinedOutput(); err != nil {
			return "", fmt.Errorf("npm ci: %w\n%s", err, out)
		}
	}
	content, err := os.ReadFile(script) //nolint:gosec // our own folder
	return string(content), err
})

// Finding is a rule of axe-core that a page breaks.
type Finding struct {
	ID     string `json:"id"`
	Impact string `json:"impact"`
	Help   string `json:"help"`
	Nodes  []struct {
		HTML    string `json:"html"`
		Summary string `json:"failureSummary"`
	} `json:"nodes"`
}

// String describes a finding with the first elements that have it.
func (f Finding) String() string {
	text := fmt.Sprintf("%s (%s): %s", f.ID, f.Impact, f.Help)
	for i, n := range f.Nodes {
		if i == 3 {
			return text + fmt.Sprintf("\n  … and %d more", len(f.Nodes)-i)
		}
		text += "\n  " + n.HTML + "\n  " + n.Summary
	}
	return text
}

// Axe returns the serious and critical findings of axe-core in the page.
func (p *Tab) Axe(t *testing.T) []Finding {
	t.Helper()
	script, err := axeScript()
	if err != nil {
		missing(t, "axe-core cannot be installed: "+err.Error())
	}
	p.Do("load axe-core", chromedp.Evaluate[chromedp.Void](script+"; undefined"))
	found := Get(p, "run axe-core", chromedp.Evaluate[string](
		`axe.run(document, {resultTypes: ["violations"]}).then(r => JSON.stringify(r.violations))`, chromedp.EvalAwaitPromise))
	var all []Finding
	if err := json.Unmarshal([]byte(found), &all); err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(all, func(f Finding) bool { return f.Impact != "serious" && f.Impact != "critical" })
}
