package app

import (
	"log/slog"
	"reflect"
	"slices"
	"testing"

	"github.com/wxcourier/wxcourier/configs"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/ratelimit"
)

func TestLiveSectionsExist(t *testing.T) {
	var sections []string
	config := reflect.TypeFor[configs.Config]()
	for i := range config.NumField() {
		sections = append(sections, config.Field(i).Tag.Get("yaml"))
	}
	for _, section := range liveSections() {
		if !slices.Contains(sections, section) {
			t.Errorf("the configuration has no section %s", section)
		}
	}
	for key, want := range map[string]bool{"apps_dir": true, "apps": true, "apps[2].secret": true, "appsx": false, "redis.db": false, "gateway.listen": false} {
		if Live(key) != want {
			t.Errorf("Live(%s) is %v", key, !want)
		}
	}
}

// TestApply: the apps of a newer configuration are in use at once, and other keys as they were.
func TestApply(t *testing.T) {
	mini, _ := redistest.Mini(t)
	const a, b = "wx00000000000000aa", "wx00000000000000bb"
	cfg := configs.Default()
	cfg.Redis.Addrs = []string{mini.Addr()}
	cfg.Apps = []configs.App{{ID: a, Secret: "first", Limits: map[string]ratelimit.Limit{"send:custom": {PerSecond: 5}}}}
	p, err := New(cfg, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	perSecond := func(app string) int64 {
		for _, w := range p.Limiter.Windows(app, "send:custom") {
			if w.Span == ratelimit.PerSecond {
				return w.Limit
			}
		}
		return 0
	}
	secretOf := func(app string) string {
		credential, _ := p.live.credential(app)
		return credential.Secret.Reveal()
	}
	next := cfg
	next.WeChat.BaseURL = "http://127.0.0.1:1"
	next.Apps = []configs.App{
		{ID: a, Secret: "second", Limits: map[string]ratelimit.Limit{"send:custom": {PerSecond: 3}}, ReserveUrgent: 0.5},
		{ID: b, Secret: "other"},
	}
	if err := p.Apply(t.Context(), next); err != nil {
		t.Fatal(err)
	}
	if got := perSecond(a); got != 3 {
		t.Errorf("the limit is %d", got)
	}
	if secretOf(a) != "second" || secretOf(b) != "other" || p.live.reserve(a) != 0.5 || len(p.gatewayApps()) != 2 {
		t.Errorf("the apps are %+v", p.Current().Apps)
	}
	if p.Current().WeChat != cfg.WeChat {
		t.Error("a key that needs a restart is in use")
	}
	next.Apps = next.Apps[1:]
	if err := p.Apply(t.Context(), next); err != nil {
		t.Fatal(err)
	}
	if secretOf(a) != "second" { // for its calls under way
		t.Error("the credentials of an app that left are gone at once")
	}
	if Known(p.Current().Apps, a) || len(p.gatewayApps()) != 1 {
		t.Error("an app that left is known")
	}
	left := (*p.live.apps.Load())[a]
	left.leftUntil = left.leftUntil.Add(-p.Config.Worker.ShutdownTimeout)
	(*p.live.apps.Load())[a] = left
	if _, ok := p.live.credential(a); ok {
		t.Error("the credentials of an app that left are kept")
	}
}
