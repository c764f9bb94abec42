package refresh

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/templates"
)

const (
	// look is the time between two looks for apps that are due.
	look = 5 * time.Second
	// announce is the time between two comparisons of the modes in Redis with the configuration, which
	// also find a lost list of due apps.
	announce = 10 * time.Minute
)

// App is what is configured for an app.
type App struct {
	templates.Mode
	Fetch bool // the templates are needed for something else, too
}

// fetches reports whether the templates of an app are kept up to date.
func (a App) fetches() bool { return a.Fetch || a.Active() }

// Run keeps the templates of apps up to date until ctx ends. apps returns the apps of this process, by
// id; changed has an element when they have changed. An app without a mode and without Fetch costs one
// command at the start and after a change.
func (r *Refresher) Run(ctx context.Context, apps func() map[string]App, changed <-chan struct{}) {
	ticker := time.NewTicker(look)
	defer ticker.Stop()
	var next time.Time // of announce; zero: now
	for {
		current := apps()
		active := slices.ContainsFunc(slices.Collect(maps.Values(current)), App.fetches)
		if next.IsZero() || active && !time.Now().Before(next) {
			r.announce(ctx, current)
			next = time.Now().Add(announce)
		}
		if active {
			r.fetchDue(ctx, current)
		}
		select {
		case <-ticker.C:
		case <-changed:
			next = time.Time{}
		case <-ctx.Done():
			return
		}
	}
}

// announce writes the configured modes to the registries that have other ones, and makes the apps due
// that have no registry.
func (r *Refresher) announce(ctx context.Context, apps map[string]App) {
	ids := slices.Sorted(maps.Keys(apps))
	if len(ids) == 0 {
		return
	}
	reading, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	stored := make([]*redis.StringCmd, len(ids))
	_, err := r.rdb.Pipelined(reading, func(p redis.Pipeliner) error {
		for i, id := range ids {
			stored[i] = p.Get(reading, templates.Key(id))
		}
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) {
		return // the next time
	}
	for i, id := range ids {
		app := apps[id]
		text, err := stored[i].Bytes()
		if err != nil {
			if app.fetches() && errors.Is(err, redis.Nil) {
				r.makeDue(ctx, id, r.now())
			}
			continue
		}
		registry, err := templates.Decode(text)
		if err != nil || registry.Mode != app.Mode {
			r.setMode(ctx, id, app)
		}
		if app.fetches() && err == nil {
			r.makeDue(ctx, id, registry.FetchedAt.Add(every)) // unless it has a time already
		}
	}
}

// makeDue gives an app a time of its next fetch, if it has none.
func (r *Refresher) makeDue(ctx context.Context, app string, at time.Time) {
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	_ = r.rdb.ZAddNX(ctx, templates.DueKey, redis.Z{Score: float64(at.Unix()), Member: app}).Err() // the next announcement repeats it
}

// setMode writes a mode to the registry of an app.
func (r *Refresher) setMode(ctx context.Context, id string, app App) {
	unlock, err := r.lock(ctx, id)
	if err != nil {
		return // the holder of the lock may write an older mode; the next announcement corrects it
	}
	defer unlock()
	registry, err := r.load(ctx, id)
	if err != nil {
		return
	}
	registry.Mode = app.Mode
	next := registry.FetchedAt.Add(every)
	if err := r.store(ctx, id, registry, next); err == nil && !app.fetches() {
		ctx, cancel := context.WithTimeout(ctx, redisTimeout)
		defer cancel()
		_ = r.rdb.ZRem(ctx, templates.DueKey, id).Err() // otherwise it stays due although no process fetches it
	}
}

// fetchDue fetches the templates of the apps that are due.
func (r *Refresher) fetchDue(ctx context.Context, apps map[string]App) {
	reading, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	ids, err := r.rdb.ZRangeByScore(reading, templates.DueKey, &redis.ZRangeBy{Min: "-inf", Max: strconv.FormatInt(r.now().Unix(), 10)}).Result()
	if err != nil {
		return
	}
	for _, id := range ids {
		app, ours := apps[id]
		if !ours || !app.fetches() || ctx.Err() != nil {
			continue
		}
		if _, err := r.fetch(ctx, id, app.Mode, due); err != nil && !errors.Is(err, ErrBusy) && ctx.Err() == nil {
			r.log.Debug("message templates could not be stored", slog.String("app", id), slog.Any("err", err))
		}
	}
}
