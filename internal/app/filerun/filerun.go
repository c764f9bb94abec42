// Package filerun delivers the tasks of one input in one process: it enqueues them, runs a worker, and
// writes a result for each. It is the engine of the subcommand run.
//
//	run, err := filerun.Open(ctx, filerun.Config{Settings: cfg, Input: file, InputName: "tasks.jsonl", …})
//	if err != nil {
//		return err
//	}
//	defer run.Close()
//	report, err := run.Deliver(ctx)
//
// Redis is the configured one. With a journal, or with the sandbox in place of WeChat, it is inside the
// process; a journal then records what was sent, so that a repeated run continues.
package filerun

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/wxcourier/wxcourier/configs"
	"github.com/wxcourier/wxcourier/internal/app"
	"github.com/wxcourier/wxcourier/internal/images"
	"github.com/wxcourier/wxcourier/internal/ingest"
	"github.com/wxcourier/wxcourier/internal/journal"
	"github.com/wxcourier/wxcourier/internal/printable"
	"github.com/wxcourier/wxcourier/internal/summary"
	"github.com/wxcourier/wxcourier/sandbox"
	"github.com/wxcourier/wxcourier/worker"
)

// Config configures a Run. Settings, Input, Results, Messages and Log are required.
type Config struct {
	// Settings is a valid configuration. Without Sandbox it has apps, and either a Redis or
	// Journal is set.
	Settings     configs.Config
	SettingsName string // the name of its file, for messages
	Log          *slog.Logger

	Input     io.Reader // JSON Lines, one task per line
	InputName string    // for messages

	Results  io.Writer // gets one JSON line per outcome, in the order in which the tasks end
	Messages io.Writer // gets messages about lines, images and results, one a line
	Quiet    bool      // no messages about lines whose tasks are delivered all the same

	// Sandbox delivers to a stand-in for WeChat inside the process. Without configured apps it
	// accepts those that occur in the input.
	Sandbox bool
	// Journal is the path of the journal; "" is none. JournalOptions are for tests.
	Journal        string
	JournalOptions []journal.Option
	// Images is the folder for the images of codes, which exists; "" writes none.
	Images images.Folder

	// OnProgress, if set, is called five times a second.
	OnProgress func(Progress)
	// OnStall, if set, is called when no task has ended for 15 s, and again each time that
	// this time has doubled.
	OnStall func(Stall)
}

// The maximum number of enqueued tasks without an outcome. A backlog slows the embedded Redis
// down.
const (
	windowEmbedded = 1000
	windowRedis    = 10_000
)

// Run is one delivery of one input. Open returns it, Deliver does the work, Close ends it.
type Run struct {
	cfg     Config
	window  int
	journal *runJournal     // nil without a journal
	sandbox *sandbox.Server // nil: WeChat itself
	pushes  sandboxPushes   // used by the goroutine that reads the input
	closers []func() error  // called by Close, the last one first

	parts    *app.Parts
	reporter ingest.Reporter
	ingest   *ingest.Runner
	out      *printable.JSONLines
	cancel   context.CancelCauseFunc // ends the delivery with a cause

	replicas    sync.WaitGroup
	running     context.Context    //nolint:containedctx // of the replicas, which start with their apps
	stopRunning context.CancelFunc // starts the replicas' shutdown

	mu          sync.Mutex      // guards the fields below
	apps        []worker.App    // that have credentials; with anyApp, those found in the input so far
	anyApp      bool            // any app is accepted; set by Open
	summary     summary.Summary // of the results
	imageErrors int
	replicaErr  error // of the replicas' Run
}

// Open opens the journal, starts what runs inside the process, and checks that Redis can be used. Its
// error may be a *journal.ForeignError.
func Open(ctx context.Context, cfg Config) (*Run, error) {
	r := &Run{
		cfg: cfg, window: windowRedis, apps: app.WorkerApps(cfg.Settings.Apps),
		reporter: ingest.Reporter{Out: cfg.Messages, Input: cfg.InputName, Quiet: cfg.Quiet},
		out:      printable.NewJSONLines(cfg.Results),
	}
	if err := r.open(ctx); err != nil {
		_ = r.Close()
		return nil, err
	}
	return r, nil
}

func (r *Run) open(ctx context.Context) (err error) {
	if r.cfg.Journal != "" {
		if err := r.openJournal(); err != nil {
			return err
		}
	}
	if r.usesEmbedded() {
		if err := r.startRedis(); err != nil {
			return err
		}
	}
	var credentials app.Credentials // nil: the configured ones
	if r.cfg.Sandbox {
		r.startSandbox() //nolint:contextcheck // Close ends it
		credentials = app.SandboxCredentials()
	}
	if r.parts, err = app.Open(ctx, r.cfg.Settings, r.cfg.Log, credentials); err != nil {
		return err
	}
	r.closers = append(r.closers, func() error { r.parts.Close(); return nil }) //nolint:contextcheck // the clean-up does not end with ctx
	if r.journal != nil {
		r.parts.Hooks = r.hooks()
		r.restoreDay(ctx)
	}
	if r.usesEmbedded() {
		r.parts.Unlisted = true // one replica for each app, in a Redis that is not watched
		r.parts.GetsPushes = r.cfg.Sandbox
		return nil
	}
	return app.CheckEviction(ctx, r.cfg.Settings.Redis, r.parts.Redis, r.cfg.Log)
}

// Close ends what Open started. Its error is that of closing the journal.
func (r *Run) Close() error {
	var errs []error
	for i := len(r.closers) - 1; i >= 0; i-- {
		errs = append(errs, r.closers[i]())
	}
	r.closers = nil
	return errors.Join(errs...)
}

// usesEmbedded reports whether the Redis is inside this process.
func (r *Run) usesEmbedded() bool { return r.cfg.Sandbox || r.journal != nil }

// The embedded Redis uses this process' memory and runs Lua in it, which makes much garbage.
const (
	embeddedMemory = 256 << 20
	embeddedGC     = 300
	indexMemory    = 128 // bytes per outcome in the journal, an upper bound
)

// embeddedResults keeps the embedded Redis small and fast. The stream holds little more than the
// results of the unfinished tasks, since each result is read at once. Its length alone limits
// it: standard output may be blocked for longer than the records are kept. Without an index of openids:
// no other program reads this Redis.
func embeddedResults() worker.ResultsConfig {
	return worker.ResultsConfig{
		Retention: 2 * time.Minute, StreamRetention: 100 * 365 * 24 * time.Hour,
		StreamMaxLen: windowEmbedded + windowEmbedded/4,
	}
}

// startRedis starts a Redis inside the process and uses it in place of a configured one.
func (r *Run) startRedis() error {
	r.window = windowEmbedded
	r.cfg.Settings.Results = embeddedResults()
	stopRedis, err := app.StartPrivateRedis(&r.cfg.Settings)
	if err != nil {
		return err
	}
	memory := int64(embeddedMemory)
	if r.journal != nil {
		memory += int64(r.journal.Ended()) * indexMemory
	}
	limit := debug.SetMemoryLimit(memory)
	percent := debug.SetGCPercent(embeddedGC)
	r.closers = append(r.closers, func() error {
		debug.SetGCPercent(percent)
		debug.SetMemoryLimit(limit)
		stopRedis()
		return nil
	})
	return nil
}

// startSandbox starts a sandbox inside the process and uses it in place of WeChat. (The Redis is then
// inside the process as well: a shared one must not hold such tasks and tokens.)
func (r *Run) startSandbox() {
	r.anyApp = len(r.apps) == 0
	for i := range r.apps {
		r.apps[i].Hours = nil // no messages are sent, so no hours apply
	}
	// Nothing reads the calls of this sandbox, so it need not keep them.
	var stop func()
	r.sandbox, stop = app.StartSandbox(&r.cfg.Settings, sandbox.Options{KeepCalls: 1, KeepMessages: 1})
	r.closers = append(r.closers, func() error { stop(); return nil })
}
