package main

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/wxcourier/wxcourier/configs"
	"github.com/wxcourier/wxcourier/internal/ingest"
	"github.com/wxcourier/wxcourier/internal/summary"
	"github.com/wxcourier/wxcourier/internal/taskfile"
	"github.com/wxcourier/wxcourier/sandbox"
	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/worker"
)

type runCommand struct {
	File    string      `arg:"" help:"JSON Lines, one task a line; - is standard input."`
	Sandbox bool        `help:"Send to a WeChat inside this process: nothing reaches anybody. A configured Redis is left alone."`
	Strict  bool        `help:"Exit with 1 unless every task was accepted."`
	Images  imageFolder `placeholder:"DIR" help:"Write the images of codes into DIR, as <app>-<id>.png or .jpg."`
	Journal string      `placeholder:"FILE" help:"Without a Redis: keep in FILE what was sent and how it ended, so that the same command can continue."`
	Quiet   bool        `short:"q" help:"No progress and no summary."`
}

func (runCommand) Help() string {
	return `Enqueues each line, delivers it with a worker inside this process, and prints one result for each task to standard output, as JSON Lines in the order in which they ended. A line that is no task is told on standard error and skipped. The status is 0 when each line has an outcome, and 1 when there were bad lines or tasks that failed or whose outcome is unknown.

Without --sandbox it needs something that remembers what was sent: a configured Redis, or --journal FILE. Then a run that was broken off is continued by the same command, and nothing is sent twice.

With a journal the Redis is inside this process. Tasks that have an outcome in the journal are not sent; their results are printed again, so that standard output is complete each time. A task whose request was under way when the run broke off is sent again where that is harmless (links, codes, checks, and template messages within ten minutes); any other ends as unknown. To send a task again that has ended, give its line another id. The journal holds ids and results; not kept are bodies, the images of codes (use --images), attempts that WeChat refused for now, and the use of limits but for the day's, as far as the journal tells it. One run at a time has a journal; it may serve several files.

A task with process_at is waited for. Ctrl-C finishes what is in hand and leaves the rest; a second one quits at once.

Examples:
    wxcourier run --sandbox examples/tasks.jsonl
    wxcourier run tasks.jsonl -c wxcourier.yaml > results.jsonl
    wxcourier run tasks.jsonl --journal tasks.journal > results.jsonl
    generate-tasks | wxcourier run --sandbox --images codes -`
}

// How many tasks may be without an outcome. The embedded Redis grows slow with a backlog.
const (
	windowEmbedded = 1000
	windowRedis    = 10_000
)

// Run does the whole job.
func (c *runCommand) Run(p *program) error {
	cfg, err := p.configuration()
	if err != nil {
		return err
	}
	if err := c.validate(p, cfg); err != nil {
		return err
	}
	if err := c.Images.prepare(); err != nil {
		return err
	}
	in, err := p.open(c.File)
	if err != nil {
		return err
	}
	defer in.close()
	f := &fileRun{command: c, program: p, input: in, cfg: cfg, apps: workerApps(cfg.Apps), window: windowRedis, images: c.Images}
	if c.Journal != "" {
		forget, err := f.openJournal()
		if err != nil {
			return err
		}
		defer forget()
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

// validate refuses what could not end well.
func (c *runCommand) validate(p *program, cfg configs.Config) error {
	switch {
	case c.Journal == "-":
		return usageErrorf("--journal - : a journal is read again by the next run; name a file, such as tasks.journal")
	case c.Sandbox:
		return nil
	case !cfg.Redis.Configured() && c.Journal == "":
		return usageErrorf("run sends to WeChat and needs something that remembers it: after a broken-off run, a repeated one would send everything twice.\nGive --journal FILE, set redis.addrs in %s (or $WXCOURIER_REDIS_ADDRS), or try the file with --sandbox, which sends nothing.", p.configName())
	case cfg.Redis.Configured() && c.Journal != "":
		return usageErrorf("--journal is for a run without a Redis, and redis.addrs is set (in %s or $WXCOURIER_REDIS_ADDRS): that Redis remembers what was sent, and the same command continues with it.\nLeave out --journal, or redis.addrs.", p.configName())
	case len(cfg.Apps) == 0:
		return usageErrorf("no app is configured.\nAdd apps with their ids and secrets to %s (or set $WXCOURIER_APPS_<APPID>_SECRET), or try the file with --sandbox.", p.configName())
	}
	return nil
}

// fileRun is one run.
type fileRun struct {
	command *runCommand
	program *program
	input   *input
	cfg     configs.Config
	apps    []worker.App // that there are credentials for; with anyApp those that were met
	anyApp  bool
	window  int
	images  imageFolder
	journal *runJournal // nil without --journal

	parts    *parts
	ingest   *ingest.Runner
	out      *jsonLines
	progress *progress
	cancel   context.CancelCauseFunc // breaks the run off

	replicas    sync.WaitGroup
	running     context.Context    //nolint:containedctx // the life of the replicas, which begin with their apps
	stopRunning context.CancelFunc // begins the replicas' shutdown

	mu          sync.Mutex // guards what follows
	summary     summary.Summary
	warned      map[string]bool // types whose warning was told
	conflicts   bodyConflicts
	imageErrors int
	replicaErr  error // of a replica's Run
}

// usesEmbedded tells whether the Redis is inside this process.
func (f *fileRun) usesEmbedded() bool { return f.command.Sandbox || f.journal != nil }

// useEmbedded puts a Redis inside the process in place of a configured one.
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

// useSandbox puts a WeChat inside the process in place of the configured one. The tokens and
// tasks of a rehearsal have no place in a Redis that others use, either.
func (f *fileRun) useSandbox() (stop func()) {
	f.anyApp = len(f.apps) == 0
	for i := range f.apps {
		f.apps[i].Hours = nil // it wakes nobody, and is to end tonight
	}
	// Nobody can ask this sandbox what it was asked, so it need not remember it.
	stop = startSandbox(&f.cfg, sandbox.Options{KeepCalls: 1, KeepMessages: 1})
	if !f.command.Quiet {
		kept := "nothing is kept after exit"
		if f.journal != nil {
			kept = "only the journal is kept after exit"
		}
		f.program.notef("Redis and WeChat are inside this process: nothing is sent to anybody, and %s.", kept)
	}
	return stop
}

// The embedded Redis lives in this process' memory, and runs Lua in it: much garbage.
const (
	embeddedMemory = 256 << 20
	embeddedGC     = 300
	indexMemory    = 128 // for each outcome of the journal, generously
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
	fed := f.ingestAll(ctx)
	return f.finish(ctx, fed, time.Since(started))
}

// ingestAll feeds the stream and waits for the outcomes.
func (f *fileRun) ingestAll(ctx context.Context) error {
	reader := f.cfg.Redis.NewClient()
	f.out = newJSONLines(f.program.stderr.Beside(f.program.stdout))
	f.warned = make(map[string]bool)
	f.conflicts = bodyConflicts{program: f.program, input: f.input.name}
	options := ingest.Options{
		Client: f.parts.client, Admit: f.admit, Bad: f.bad, Enqueued: f.enqueued, Duplicate: f.duplicate,
	}
	if f.journal != nil {
		options.Ended = f.checkJournal
		f.journal.start(f)
	}
	f.ingest = ingest.NewRunner(ingest.RunnerOptions{
		Options: options,
		Reader:  tasks.NewClient(reader), StopReading: func() { _ = reader.Close() },
		Window: f.window, Result: f.result, Trouble: f.readError,
	})
	f.progress = newProgress(f)
	f.progress.start(ctx)
	fed := f.ingest.Run(ctx, taskfile.New(f.input))
	f.stopRunning()
	f.replicas.Wait()
	f.ingest.Close(context.WithoutCancel(ctx))
	if f.journal != nil {
		f.journal.finish()
	}
	f.progress.stop()
	f.conflicts.logRest()
	if err := f.out.flush(); err != nil {
		return errors.Join(fed, fmt.Errorf("write the results: %w", err))
	}
	return fed
}

// startReplica starts a worker for some apps.
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

// maxSandboxApps bounds the apps of a rehearsal: each is met for the first time in the file,
// and gets a worker of its own then.
const maxSandboxApps = 500

// admit tells whether tasks of an app can be sent.
func (f *fileRun) admit(_ context.Context, app string) error {
	if !f.anyApp {
		return knownApp(f.apps, app, f.program.configName())
	}
	if len(f.apps) == maxSandboxApps {
		return fmt.Errorf("app: %s is one more than the %d that a rehearsal serves", app, maxSandboxApps)
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
