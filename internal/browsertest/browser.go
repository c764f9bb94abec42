// Package browsertest opens the console in a headless Chromium. It is a module of its own, so that
// what only these tests need is no dependency of wxcourier.
package browsertest

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// stepTimeout bounds one step of a test: a busy machine is slow.
const stepTimeout = 60 * time.Second

// Browser is a running Chromium.
type Browser struct{ ctx context.Context }

// StartBrowser starts a Chromium, which ends with the test. Without one the test is skipped; in CI it
// fails.
func StartBrowser(t *testing.T) *Browser {
	t.Helper()
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	if path == "" {
		missing(t, "chromium is not installed")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.Flag("disable-dev-shm-usage", true),
		chromedp.Flag("hide-scrollbars", true), chromedp.WSURLReadTimeout(stepTimeout))
	ctx, cancel := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("start chromium: %v", err)
	}
	return &Browser{ctx: ctx}
}

// missing skips the test, or lets it fail in CI.
func missing(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatalf("%s: CI needs it", what)
	}
	t.Skipf("skipped: %s", what)
}

// phoneWidth is the width below which a view is that of a phone.
const phoneWidth = 600

// View is how a page is looked at.
type View struct {
	Width, Height int64
	Dark          bool
	Language      string // as in Accept-Language
}

// String returns a name for files.
func (v View) String() string {
	size, theme := "desktop", "light"
	if v.Width < phoneWidth {
		size = "phone"
	}
	if v.Dark {
		theme = "dark"
	}
	return strings.Join([]string{size, theme, v.Language[:2]}, "-")
}

// Views are both sizes, themes and languages.
func Views() []View {
	var all []View
	for _, size := range [][2]int64{{1280, 900}, {390, 844}} {
		for _, dark := range []bool{false, true} {
			for _, lang := range []string{"en", "zh-CN"} {
				all = append(all, View{Width: size[0], Height: size[1], Dark: dark, Language: lang})
			}
		}
	}
	return all
}

// Tab is one tab of a browser. It notes what goes wrong in its pages.
type Tab struct {
	t *testing.T

	browser *Browser
	ctx     context.Context
	host    string // of the pages; requests to others are problems

	mu       sync.Mutex
	problems []string                     // guarded by mu
	sizes    map[network.RequestID]string // guarded by mu; the URLs of requests
	bytes    map[string]int64             // guarded by mu; by URL, as transferred
}

// Tab opens a tab, which is closed with the test. base is the URL of the pages.
func (b *Browser) Tab(t *testing.T, base string, v View) *Tab {
	t.Helper()
	ctx, cancel := chromedp.NewContext(b.ctx, chromedp.WithNewBrowserContext())
	t.Cleanup(cancel)
	u, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	tab := &Tab{t: t, browser: b, ctx: ctx, host: u.Host, sizes: make(map[network.RequestID]string), bytes: make(map[string]int64)}
	theme := "light"
	if v.Dark {
		theme = "dark"
	}
	if err := chromedp.Listen(ctx, tab.note); err != nil {
		t.Fatalf("open a tab: %v", err)
	}
	tab.Do("prepare the tab",
		command(network.Enable, network.EnableParams{}), command(log.Enable, cdp.Empty{}),
		command(network.SetExtraHTTPHeaders, network.SetExtraHTTPHeadersParams{Headers: network.Headers{"Accept-Language": v.Language}}),
		command(emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{
			Width: v.Width, Height: v.Height, DeviceScaleFactor: 1, Mobile: v.Width < phoneWidth,
		}),
		command(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
			{Name: "prefers-color-scheme", Value: theme}, {Name: "prefers-reduced-motion", Value: "reduce"},
		}}),
	)
	return tab
}

// command is a command of the DevTools protocol as an action.
func command[P, R any](c cdp.Command[P, R], params P) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, c, params)
		return err
	})
}

// note keeps what an event says.
func (p *Tab) note(event any) {
	p.mu.Lock() // the events are read by another goroutine
	defer p.mu.Unlock()
	switch e := event.(type) {
	case *network.EventRequestWillBeSent:
		p.sizes[e.RequestID] = e.Request.URL
		if u, err := url.Parse(e.Request.URL); err == nil && u.Host != p.host && u.Scheme != "data" && u.Scheme != "blob" && u.Scheme != "about" {
			p.problems = append(p.problems, "a request to another host: "+e.Request.URL)
		}
	case *network.EventLoadingFinished:
		p.bytes[p.sizes[e.RequestID]] += int64(e.EncodedDataLength)
	case *log.EventEntryAdded:
		if e.Entry.Level == log.EntryLevelError || e.Entry.Source == log.EntrySourceSecurity {
			p.problems = append(p.problems, fmt.Sprintf("%s: %s %s", e.Entry.Source, e.Entry.Text, e.Entry.URL))
		}
	case *runtime.EventExceptionThrown:
		p.problems = append(p.problems, "exception: "+e.ExceptionDetails.Text+" "+exceptionText(e.ExceptionDetails))
	}
}

// Problems returns the errors of scripts, breaches of the Content-Security-Policy, failed requests
// and requests to other hosts since the last call.
func (p *Tab) Problems() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	problems := p.problems
	p.problems = nil
	return problems
}

// Bytes returns how many bytes were transferred for a URL.
func (p *Tab) Bytes(address string) int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.bytes[address]
}

// Do does some steps; the test fails if they do not end.
func (p *Tab) Do(what string, steps ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	if err := p.try(steps...); err != nil {
		p.Screenshot("failed")
		p.t.Fatalf("%s: %v\n%s", what, err, strings.Join(p.Problems(), "\n"))
	}
}

func (p *Tab) try(steps ...chromedp.Action[chromedp.Void]) error {
	ctx, cancel := context.WithTimeout(p.ctx, stepTimeout)
	defer cancel()
	return chromedp.Do(ctx, steps...)
}

// Get does a step that returns a value; the test fails if it does not end.
func Get[T any](p *Tab, what string, step chromedp.Action[T]) T {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, stepTimeout)
	defer cancel()
	value, err := chromedp.Run(ctx, step)
	if err != nil {
		p.t.Fatalf("%s: %v\n%s", what, err, strings.Join(p.Problems(), "\n"))
	}
	return value
}

// Open opens a page, and waits until it is loaded.
func (p *Tab) Open(address string) {
	p.t.Helper()
	p.Do("open "+address, chromedp.Navigate(address), chromedp.WaitReady("body"))
}

// Text returns the visible text of the first element of a selector.
func (p *Tab) Text(selector string) string {
	p.t.Helper()
	return Get(p, "read "+selector, chromedp.Text(selector))
}

// WaitText waits until an element has a text.
func (p *Tab) WaitText(selector, text string) {
	p.t.Helper()
	expression := fmt.Sprintf(`[...document.querySelectorAll(%q)].some(e => e.innerText.includes(%q))`, selector, text)
	p.Wait(fmt.Sprintf("%q is in %s", text, selector), expression)
}

// Wait waits until an expression of the page's script is true. The page may be left meanwhile.
func (p *Tab) Wait(what, expression string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, stepTimeout)
	defer cancel()
	for {
		is, err := chromedp.Run(ctx, chromedp.Evaluate[bool](expression))
		if is && err == nil {
			return
		}
		select {
		case <-ctx.Done():
			p.Screenshot("failed")
			p.t.Fatalf("wait until %s: %v\n%s", what, err, strings.Join(p.Problems(), "\n"))
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// Screenshot writes a picture of the whole page into the folder $SCREENSHOTS, if it is set.
func (p *Tab) Screenshot(name string) {
	p.t.Helper()
	dir := os.Getenv("SCREENSHOTS")
	if dir == "" {
		return
	}
	ctx, cancel := context.WithTimeout(p.ctx, stepTimeout)
	defer cancel()
	picture, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
	if err != nil {
		p.t.Logf("no picture of %s: %v", name, err)
		return
	}
	if err := os.WriteFile(filepath.Join(dir, name+".png"), picture, 0o600); err != nil {
		p.t.Fatal(err)
	}
}

// exceptionText returns the description of an exception.
func exceptionText(d *runtime.ExceptionDetails) string {
	if d.Exception == nil {
		return ""
	}
	return d.Exception.Description
}
