// Package reload reads the configuration again while the process runs: when one of its files
// changes, and at a signal.
//
//	w := reload.New(reload.Config{Path: "wxcourier.yaml", Environ: env, Started: cfg, Apply: apply, Log: log})
//	w.Run(ctx) // until ctx ends
//
// A configuration is taken over whole, or refused whole with all its mistakes; the one before then
// stays in use. What was taken over is logged by the names of apps and keys, and never by a value.
package reload

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/wxcourier/wxcourier/configs"
	"github.com/wxcourier/wxcourier/internal/app"
	"github.com/wxcourier/wxcourier/worker"
)

// every is the interval of the looks at the files. A change is taken over at the second look that
// shows the same, so that a file is not read while it is being written.
const every = time.Second

// Config configures a Watcher. Path, Signals, Validate, Unused, Report and Every may be left out.
type Config struct {
	Path    string         // of the configuration file; "": none
	Environ []string       // as os.Environ gives it; it takes precedence over the files
	Started configs.Config // the configuration that the process started with
	Signals <-chan os.Signal

	// Validate returns a mistake of a configuration beyond those that package configs knows.
	Validate func(configs.Config) error
	// Unused are the sections that this process does not use: changes there need no restart.
	Unused []string
	// Apply takes over a configuration. Its error is logged; the configuration is in use nevertheless.
	Apply func(context.Context, configs.Config) error
	// Report is called after each change of the state, and at the start.
	Report func(worker.Configuration)

	Every time.Duration // default: a second
	Log   *slog.Logger
}

// Watcher reads the configuration again. Create it with New.
type Watcher struct {
	cfg   Config
	files fileWatch

	inUse   configs.Config // the last one that was taken over
	state   worker.Configuration
	refusal string // the mistakes of the one that is refused; "": none is
}

// New creates a Watcher. It does no I/O.
func New(cfg Config) *Watcher {
	if cfg.Every == 0 {
		cfg.Every = every
	}
	return &Watcher{
		cfg: cfg, inUse: cfg.Started,
		state: worker.Configuration{Hash: cfg.Started.Hash(), Read: time.Now().Truncate(time.Second)},
	}
}

// Run follows the files until ctx ends.
func (w *Watcher) Run(ctx context.Context) {
	w.report()
	w.read(ctx) // the files may have changed since the start
	ticker := time.NewTicker(w.cfg.Every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			if w.files.changed() {
				w.read(ctx)
			}
		case <-w.cfg.Signals:
			w.cfg.Log.Info("the configuration is read again, at a signal")
			w.refusal = "" // tell the mistakes again
			w.read(ctx)
		}
	}
}

// read reads the configuration, and takes it over or refuses it.
func (w *Watcher) read(ctx context.Context) {
	next, paths, err := configs.Read(w.cfg.Path, w.cfg.Environ)
	w.files.read(paths)
	if err == nil && w.cfg.Validate != nil {
		err = w.cfg.Validate(next)
	}
	if err != nil {
		w.refuse(err)
		return
	}
	mended := !w.state.Refused.IsZero()
	w.refusal, w.state.Refused = "", time.Time{}
	changes := configs.Compare(w.inUse, next)
	if changes.None() {
		if mended {
			w.cfg.Log.Info("the configuration has no mistakes any more; nothing has changed")
			w.report()
		}
		return
	}
	w.takeOver(ctx, next, changes)
}

// refuse logs the mistakes of a configuration, once.
func (w *Watcher) refuse(err error) {
	if err.Error() == w.refusal {
		return
	}
	w.refusal = err.Error()
	if w.state.Refused.IsZero() {
		w.state.Refused = time.Now().Truncate(time.Second)
	}
	const refused = "the new configuration is refused; the one in use stays"
	var mistakes *configs.Error
	if !errors.As(err, &mistakes) {
		w.cfg.Log.Error(refused, slog.Any("err", err))
	} else {
		w.cfg.Log.Error(refused, slog.String("file", mistakes.Path), slog.Int("mistakes", len(mistakes.Problems)))
		for _, p := range mistakes.Problems {
			w.cfg.Log.Error("a mistake in the configuration", slog.String("err", p.String()))
		}
	}
	w.report()
}

// takeOver applies a configuration, and logs what has changed.
func (w *Watcher) takeOver(ctx context.Context, next configs.Config, changes configs.Changes) {
	w.inUse = next
	w.state.Hash, w.state.Read = next.Hash(), time.Now().Truncate(time.Second)
	w.state.Restart = w.needRestart(configs.Compare(w.cfg.Started, next).Keys)
	if err := w.cfg.Apply(ctx, next); err != nil && ctx.Err() == nil {
		w.cfg.Log.Warn("leased permits could not be given back", slog.Any("err", err))
	}
	for _, id := range changes.Added {
		w.cfg.Log.Info("app added", slog.String("app", id))
	}
	for _, c := range changes.Changed {
		w.cfg.Log.Info("app changed", slog.String("app", c.App), slog.Any("keys", c.Keys))
	}
	for _, id := range changes.Removed {
		w.cfg.Log.Info("app removed; its tasks wait", slog.String("app", id))
	}
	if keys := w.needRestart(changes.Keys); len(keys) > 0 {
		w.cfg.Log.Warn("changed keys apply after a restart", slog.Any("keys", keys))
	}
	w.cfg.Log.Info("the configuration is taken over", slog.Int("apps", len(next.Apps)), slog.String("hash", w.state.Hash))
	w.report()
}

// needRestart returns the keys that this process uses and cannot take over.
func (w *Watcher) needRestart(keys []string) []string {
	unused := func(key string) bool {
		return slices.ContainsFunc(w.cfg.Unused, func(section string) bool { return app.Within(key, section) })
	}
	return slices.DeleteFunc(slices.Clone(keys), func(key string) bool { return app.Live(key) || unused(key) })
}

func (w *Watcher) report() {
	if w.cfg.Report != nil {
		w.cfg.Report(w.state)
	}
}
