package app

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wxcourier/wxcourier/configs"
	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/wechat"
)

// liveSections returns the sections of the configuration that [Parts.Apply] takes over. The others
// apply after a restart.
func liveSections() []string { return []string{"apps", "apps_dir", "providers", "webhooks"} }

// Live reports whether [Parts.Apply] takes over a key of the configuration.
func Live(key string) bool {
	return slices.ContainsFunc(liveSections(), func(section string) bool { return Within(key, section) })
}

// Within reports whether a key of the configuration is in a section.
func Within(key, section string) bool {
	rest, ok := strings.CutPrefix(key, section)
	return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
}

// live is the part of the configuration that may change while the process runs. Each change
// replaces the pointers.
type live struct {
	mu     sync.Mutex          // guards the two fields below, and changes of the others
	base   configs.Config      // without the apps that were added
	added  map[string][]string // by service provider: the accounts that authorized it, sorted
	config atomic.Pointer[configs.Config]
	apps   atomic.Pointer[map[string]liveApp]
}

// liveApp is a configured app, or one that left and whose calls under way may need its credentials.
type liveApp struct {
	configs.App
	security  *wechat.Security // nil: none
	leftUntil time.Time        // for how long the credentials are kept; zero: it is configured
}

func newLive(cfg configs.Config) *live {
	l := &live{added: make(map[string][]string)}
	l.replace(cfg, 0)
	return l
}

// replace replaces the configuration. It keeps the credentials of apps that leave for some time.
func (l *live) replace(cfg configs.Config, keep time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.base = cfg
	l.store(keep)
}

// store makes the configuration with the added apps the one in use. The caller holds l.mu.
func (l *live) store(keep time.Duration) {
	cfg := l.base
	cfg.Apps = l.withAdded()
	apps, now := make(map[string]liveApp, len(cfg.Apps)), time.Now()
	var before map[string]liveApp
	if p := l.apps.Load(); p != nil {
		before = *p
	}
	for _, app := range cfg.Apps {
		next, was := liveApp{App: app}, before[app.ID]
		if reflect.DeepEqual(was.Security, app.Security) {
			next.security = was.security // it remembers of which certificate it has warned
		} else {
			next.security = securityOf(app)
		}
		apps[app.ID] = next
	}
	for id, was := range before {
		if was.leftUntil.IsZero() {
			was.leftUntil = now.Add(keep)
		}
		if _, stays := apps[id]; !stays && now.Before(was.leftUntil) {
			apps[id] = was
		}
	}
	l.config.Store(&cfg)
	l.apps.Store(&apps)
}

// securityOf returns what encrypts the requests of an app; nil for none. The configuration was checked.
func securityOf(app configs.App) *wechat.Security {
	if !app.Security.Configured() {
		return nil
	}
	s, err := wechat.NewSecurity(app.ID, app.Security)
	if err != nil {
		return nil
	}
	return s
}

// security is like limits.
func (l *live) security(app string) *wechat.Security {
	return (*l.apps.Load())[app].security
}

// app returns an app that is configured.
func (l *live) app(id string) (configs.App, bool) {
	found, ok := (*l.apps.Load())[id]
	return found.App, ok && found.leftUntil.IsZero()
}

func (l *live) credential(app string) (wechat.Credential, bool) {
	found, ok := (*l.apps.Load())[app]
	if !ok || !found.leftUntil.IsZero() && time.Now().After(found.leftUntil) {
		provider, known := l.config.Load().Provider(app)
		return provider.Credential(), known
	}
	return found.Credential(), true
}

// callback reports whether an app has a callback; known is false for one that is not configured.
func (l *live) callback(app string) (has, known bool) {
	found, known := l.app(app)
	return found.Callback.Configured(), known
}

// limits also answers for an app that has left: it may have calls under way.
func (l *live) limits(app string) map[string]ratelimit.Limit {
	return (*l.apps.Load())[app].Limits
}

// reserve is like limits.
func (l *live) reserve(app string) float64 {
	return (*l.apps.Load())[app].ReserveUrgent
}

// Current returns the configuration in use: Config with what [Parts.Apply] took over since. The
// caller must not change its lists and maps.
func (p *Parts) Current() configs.Config { return *p.live.config.Load() }

// Apply takes over the apps of a newer configuration: their secrets, token modes, limits, hours and
// receivers. A replica gets them by [worker.Replica.SetApps], which is called afterwards. Apply is
// not safe for concurrent use; all readers are.
//
// The error is one of Redis: the permits that were leased under the old limits could not be given
// back, and stay counted. The configuration is in use nevertheless.
func (p *Parts) Apply(ctx context.Context, next configs.Config) error {
	before, after := p.Current(), p.Config
	from, into := reflect.ValueOf(next), reflect.ValueOf(&after).Elem()
	for i := range into.NumField() {
		if slices.Contains(liveSections(), into.Type().Field(i).Tag.Get("yaml")) {
			into.Field(i).Set(from.Field(i))
		}
	}
	p.live.replace(after, p.Config.Worker.ShutdownTimeout)
	after = p.Current() // with the apps that were added
	p.providersChanged(before, after)
	changes := configs.Compare(before, after)
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	var errs []error
	for _, c := range changes.Changed {
		if c.Touches("secret", "token") {
			p.Tokens.CredentialsChanged(c.App)
		}
		if c.Touches("limits", "reserve_urgent") {
			errs = append(errs, p.Limiter.LimitsChanged(ctx, c.App))
		}
	}
	for _, app := range changes.Removed {
		errs = append(errs, p.Limiter.Revoke(ctx, app))
	}
	return errors.Join(errs...)
}
