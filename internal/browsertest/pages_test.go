package browsertest

import (
	"fmt"
	"os"
	"testing"
)

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "wxcourier-browser")
	if err == nil {
		program, err = build(dir)
	}
	code := 1
	if err == nil {
		code = m.Run()
	} else {
		fmt.Fprintln(os.Stderr, err)
	}
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// Each page of the console, in each view: no error of a script, no breach of the policy, no request
// to another host, and no serious finding of axe-core.
func TestPages(t *testing.T) {
	browser, dev := StartBrowser(t), StartDev(t)
	for _, view := range Views() {
		t.Run(view.String(), func(t *testing.T) {
			tab := browser.Tab(t, dev, view)
			for _, path := range []string{"/"} {
				tab.Open(dev + path)
				tab.Screenshot(view.String() + "-overview")
				for _, finding := range tab.Axe(t) {
					t.Errorf("%s: %v", path, finding)
				}
				for _, problem := range tab.Problems() {
					t.Errorf("%s: %s", path, problem)
				}
			}
		})
	}
}
