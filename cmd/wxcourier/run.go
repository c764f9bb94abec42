package main

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/wxcourier/wxcourier/configs"
	"github.com/wxcourier/wxcourier/internal/images"
	"github.com/wxcourier/wxcourier/internal/ingest"
	"github.com/wxcourier/wxcourier/internal/printable"
	"github.com/wxcourier/wxcourier/internal/summary"
	"github.com/wxcourier/wxcourier/internal/taskfile"
	"github.com/wxcourier/wxcourier/sandbox"
	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/worker"
)

type runCommand struct {
	File    string        `arg:"" help:"JSON Lines, one task per line; - is standard input."`
	Sandbox bool          `help:"Send to a stand-in for WeChat inside this process: no messages are sent. A configured Redis is not used."`
	Strict  bool          `help:"Exit with 1 unless every task is accepted."`
	Images  images.Folder `placeholder:"DIR" help:"Write the images of codes into DIR, as <app>-<id>.png or .jpg."`
	Journal string        `placeholder:"FILE" help:"Without a Redis: record requests and results in FILE, so that the same command can continue."`
	Quiet   bool          `short:"q" help:"Print no progress and no summary."`
}

func (runCommand) Help() string {
	return `Enqueues each line, delivers it with a worker inside this process, and prints one result per task to standard output, as JSON Lines in the order in which the tasks end. An invalid line is reported on standard error and skipped. The exit status is 0 when every line has an outcome, and 1 when there were invalid lines or tasks that failed or whose outcome is unknown.

Without --sandbox it requires a record of what was sent: a configured Redis, or --journal FILE. Then the same command continues an interrupted run, and nothing is sent twice.

With --journal the Redis is inside this process. Tasks with an outcome in the journal are not sent; their results are printed again, so that the output is complete each time. A task whose request was in flight when the run was interrupted is sent again where that is harmless (links, codes, checks, and template messages within ten minutes); otherwise it ends as unknown. To send an ended task again, give its line another id. The journal holds ids and results. It does not hold bodies, images of codes (use --images), attempts that WeChat refused temporarily, or the use of limits except the daily ones, as far as the journal shows it. Only one run at a time can use a journal; one journal can serve several files.

The run waits for tasks with process_at. Ctrl-C finishes the tasks in flight and leaves the rest; a second Ctrl-C quits at once.

Examples:
    wxcourier run --sandbox examples/tasks.jsonl
    wxcourier run tasks.jsonl -c wxcourier.yaml > results.jsonl
    wxcourier run tasks.jsonl --journal tasks.journal > results.jsonl
    generate-tasks | wxcourier run --sandbox --images codes -`
}

// The maximum number of enqueued tasks without an outcome. A backlog slows the embedded Redis
// down.
const (
	windowEmbedded = 1000
	windowRedis    = 10_000
)

// Run enqueues and delivers the file.
func (c *runCommand) Run(p *program) error {
	cfg, err := p.configuration()
	if err != nil {
		return err
	}
	if err := c.validate(p, cfg); err != nil {
		return err
	}
	if err := c.Images.Make(); err != nil {
		return err
	}
	in, err := p.open(c.File)
	if err != nil {
		return err
	}
	defer in.close()
	f := &fileRun{command: c, program: p, input: in, cfg: cfg, apps: workerApps(cfg.Apps), window: windowRedis, images: c.Images}
	if c.Journal != "" {
		closeJournal, err := f.openJournal()
		if err != nil {
			return err
		}
		defer closeJournal()
	}
	if f.usesEmbedded() {
		stop, err := f.useEmbedded()
		if err != nil {
			return err
		}
		defer stop()
	}
	if c.Sandbox {
		defer f.useSandbox()()
	}
	return f.run()
}

// validate returns a usage error for combinations that cannot work or could send tasks twice.
func (c *runCommand) validate(p *program, cfg configs.Config) error {
	switch {
	case c.Journal == "-":
		return usageErrorf("--journal -: the next run reads the journal again; name a file, such as tasks.journal")
	case c.Sandbox:
		return nil
	case !cfg.Redis.Configured() && c.Journal == "":
		return usageErrorf("run sends to WeChat and requires a record of what was sent; without one, repeating an interrupted run would send everything twice.\nUse --journal FILE, set redis.addrs in %s (or $WXCOURIER_REDIS_ADDRS), or try the file with --sandbox, which sends no messages.", p.configName())
	case cfg.Redis.Configured() && c.Journal != "":
		return usageErrorf("--journal is for a run without a Redis, but redis.addrs is set (in %s or $WXCOURIER_REDIS_ADDRS): that Redis records what was sent, and the same command continues with it.\nLeave out --journal or redis.addrs.", p.configName())
	case len(cfg.Apps) == 0:
		return usageErrorf("no app is configured.\nAdd apps with their ids and secrets to %s (or set $WXCOURIER_APPS_<APPID>_SECRET), or try the file with --sandbox.", p.configName())
	}
	return nil
}

// fileRun is one execution of run.
type fileRun struct {
	command *runCommand
	program *program
	input   *input
	cfg     configs.Config
	apps    []worker.App // that have credentials; with anyApp, those found in the file so far
	anyApp  bool
	window  int
	images  images.Folder
	journal *runJournal // nil without --journal

	parts    *parts
	ingest   *ingest.Runner
	out      *printable.JSONLines
	progress *progress
	cancel   context.CancelCauseFunc // ends the run with a cause

	replicas    sync.WaitGroup
	running     context.Context    //nolint:containedctx // of the replicas, which start with their apps
	stopRunning context.CancelFunc // starts the replicas' shutdown

	mu          sync.Mutex // guards the fields below
	summary     summary.Summary
	warned      map[string]bool // warnings that were printed
	conflicts   bodyConflicts
	imageErrors int
	replicaErr  error // of the replicas' Run
}

// usesEmbedded reports whether the Redis is inside this process.
func (f *fileRun) usesEmbedded() bool { return f.command.Sandbox || f.journal != nil }

// useEmbedded starts a Redis inside the process and uses it in place of a configured one.
func (f *fileRun) useEmbedded() (stop func(), err error) {
	f.window = windowEmbedded
	f.cfg.Results = embeddedResults()
	stopRedis, err := startProtected(&f.cfg)
	if err != nil {
		return nil, err
	}
	memory := int64(embeddedMemory)
	if f.journal != nil {
		memory += int64(f.journal.Ended()) * indexMemory
	}
	limit := debug.SetMemoryLimit(memory)
	percent := debug.SetGCPercent(embeddedGC)
	return func() {
		debug.SetGCPercent(percent)
		debug.SetMemoryLimit(limit)
		stopRedis()
	}, nil
}

// useSandbox starts a sandbox inside the process and uses it in place of WeChat. (With --sandbox
// the Redis is inside the process as well: a shared one must not hold such tasks and tokens.)
func (f *fileRun) useSandbox() (stop func()) {
	f.anyApp = len(f.apps) == 0
	for i := range f.apps {
		f.apps[i].Hours = nil // no messages are sent, so no hours apply
	}
	// Nothing reads the calls of this sandbox, so it need not keep them.
	stop = startSandbox(&f.cfg, sandbox.Options{KeepCalls: 1, KeepMessages: 1})
	if !f.command.Quiet {
		kept := "nothing is kept after exit"
		if f.journal != nil {
			kept = "only the journal is kept after exit"
		}
		f.program.notef("Redis and WeChat run inside this process: no messages are sent, and %s.", kept)
	}
	return stop
}

// The embedded Redis uses this process' memory and runs Lua in it, which makes much garbage.
const (
	embeddedMemory = 256 << 20
	embeddedGC     = 300
	indexMemory    = 128 // bytes per outcome in the journal, an upper bound
)

func (f *fileRun) run() (err error) {
	ctx, cancel := context.WithCancelCause(f.program.ctx)
	defer cancel(nil)
	f.cancel = cancel
	credentials := sandboxCredential
	if !f.command.Sandbox {
		credentials = credentialsOf(f.cfg.Apps)
	}
	if f.parts, err = newParts(f.cfg, f.program.logger(), credentials); err != nil {
		return err
	}
	defer f.parts.close()
	if err := pingRedis(ctx, f.cfg.Redis, f.parts.rdb); err != nil {
		return err
	}
	if f.journal != nil {
		f.parts.hooks = f.hooks()
		f.restoreDay(ctx)
	}
	if !f.usesEmbedded() {
		if err := checkEviction(ctx, f.cfg.Redis, f.parts.rdb, f.parts.log); err != nil {
			return err
		}
	}
	f.running, f.stopRunning = context.WithCancel(context.WithoutCancel(ctx))
	defer f.stopRunning()
	if !f.anyApp {
		if err := f.startReplica(f.apps); err != nil {
			return err
		}
	}
	started := time.Now()
	err = f.ingestAll(ctx)
	return f.finish(ctx, err, time.Since(started))
}

// ingestAll enqueues the input and waits until every task has an outcome.
func (f *fileRun) ingestAll(ctx context.Context) error {
	reader := f.cfg.Redis.NewClient()
	f.out = printable.NewJSONLines(f.program.stderr.WriterFor(f.program.stdout))
	f.warned = make(map[string]bool)
	f.conflicts = bodyConflicts{program: f.program, input: f.input.name}
	options := ingest.Options{
		Client: f.parts.client, Admit: f.admit, OnBadLine: f.bad, OnEnqueued: f.enqueued, OnDuplicate: f.duplicate,
	}
	if f.journal != nil {
		options.AlreadyEnded = f.checkJournal
		f.journal.start(f)
	}
	f.ingest = ingest.NewRunner(ingest.RunnerOptions{
		Options: options,
		Reader:  tasks.NewClient(reader), CloseReader: func() { _ = reader.Close() },
		Window: f.window, OnResult: f.result, OnError: f.readError,
	})
	f.progress = newProgress(f)
	f.progress.start(ctx)
	err := f.ingest.Run(ctx, taskfile.New(f.input))
	f.stopRunning()
	f.replicas.Wait()
	f.ingest.Close(context.WithoutCancel(ctx))
	if f.journal != nil {
		f.journal.finish()
	}
	f.progress.stop()
	f.conflicts.logRest()
	if flushErr := f.out.Flush(); flushErr != nil {
		return errors.Join(err, fmt.Errorf("write the results: %w", flushErr))
	}
	return err
}

// startReplica starts a replica for the apps.
func (f *fileRun) startReplica(apps []worker.App) error {
	replica, err := f.parts.replica(apps, nil)
	if err != nil {
		return err
	}
	f.replicas.Go(func() {
		if err := replica.Run(f.running); err != nil {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.replicaErr = errors.Join(f.replicaErr, err)
		}
	})
	return nil
}

// maxSandboxApps is the maximum number of apps of a run with --sandbox and no configured apps: each
// app gets a replica of its own when it first occurs in the file.
const maxSandboxApps = 500

// admit returns an error when tasks of the app cannot be sent.
func (f *fileRun) admit(_ context.Context, app string) error {
	if !f.anyApp {
		return knownApp(f.apps, app, f.program.configName())
	}
	if len(f.apps) == maxSandboxApps {
		return fmt.Errorf("app: %s exceeds the maximum of %d apps with --sandbox", app, maxSandboxApps)
	}
	one := worker.App{ID: app}
	f.mu.Lock()
	f.apps = append(f.apps, one)
	f.mu.Unlock()
	return f.startReplica([]worker.App{one})
}

func knownApp(apps []worker.App, app, where string) error {
	for _, a := range apps {
		if a.ID == app {
			return nil
		}
	}
	return fmt.Errorf("app: %s is not configured: add it to apps in %s, with its secret", app, where)
}
