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
	if err := c.possible(p, cfg); err != nil {
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
	j := &fileRun{command: c, program: p, input: in, cfg: cfg, apps: workerApps(cfg.Apps), window: windowRedis, images: c.Images}
	if c.Journal != "" {
		forget, err := j.remember()
		if err != nil {
			return err
		}
		defer forget()
	}
	if j.alone() {
		stop, err := j.embed()
		if err != nil {
			return err
		}
		defer stop()
	}
	if c.Sandbox {
		defer j.rehearse()()
	}
	return j.run()
}

// possible refuses what could not end well.
func (c *runCommand) possible(p *program, cfg configs.Config) error {
	switch {
	case c.Journal == "-":
		return misuse("--journal - : a journal is read again by the next run; name a file, such as tasks.journal")
	case c.Sandbox:
		return nil
	case !cfg.Redis.Configured() && c.Journal == "":
		return misuse("run sends to WeChat and needs something that remembers it: after a broken-off run, a repeated one would send everything twice.\nGive --journal FILE, set redis.addrs in %s (or $WXCOURIER_REDIS_ADDRS), or try the file with --sandbox, which sends nothing.", p.where())
	case cfg.Redis.Configured() && c.Journal != "":
		return misuse("--journal is for a run without a Redis, and redis.addrs is set (in %s or $WXCOURIER_REDIS_ADDRS): that Redis remembers what was sent, and the same command continues with it.\nLeave out --journal, or redis.addrs.", p.where())
	case len(cfg.Apps) == 0:
		return misuse("no app is configured.\nAdd apps with their ids and secrets to %s (or set $WXCOURIER_APPS_<APPID>_SECRET), or try the file with --sandbox.", p.where())
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
	record  *record // nil without --journal

	parts    *parts
	ingest   *ingest.Runner
	out      *jsonLines
	progress *progress
	cancel   context.CancelCauseFunc // breaks the run off

	replicas    sync.WaitGroup
	running     context.Context    //nolint:containedctx // the life of the replicas, which begin with their apps
	stopRunning context.CancelFunc // begins the replicas' shutdown

	mu         sync.Mutex // guards what follows
	summary    summary.Summary
	warned     map[string]bool // types whose warning was told
	others     differing
	imageFails int
	unclean    error // of a replica's Run
}

// alone tells whether the Redis is inside this process.
func (j *fileRun) alone() bool { return j.command.Sandbox || j.record != nil }

// embed puts a Redis inside the process in place of a configured one.
func (j *fileRun) embed() (stop func(), err error) {
	j.window = windowEmbedded
	j.cfg.Results = embeddedResults()
	stopRedis, err := startPrivate(&j.cfg)
	if err != nil {
		return nil, err
	}
	memory := int64(embeddedMemory)
	if j.record != nil {
		memory += int64(j.record.Ended()) * indexMemory
	}
	limit := debug.SetMemoryLimit(memory)
	percent := debug.SetGCPercent(embeddedGC)
	return func() {
		debug.SetGCPercent(percent)
		debug.SetMemoryLimit(limit)
		stopRedis()
	}, nil
}

// rehearse puts a WeChat inside the process in place of the configured one. The tokens and
// tasks of a rehearsal have no place in a Redis that others use, either.
func (j *fileRun) rehearse() (stop func()) {
	j.anyApp = len(j.apps) == 0
	for i := range j.apps {
		j.apps[i].Hours = nil // it wakes nobody, and is to end tonight
	}
	// Nobody can ask this sandbox what it was asked, so it need not remember it.
	stop = startSandbox(&j.cfg, sandbox.Options{KeepCalls: 1, KeepMessages: 1})
	if !j.command.Quiet {
		kept := "nothing is kept after exit"
		if j.record != nil {
			kept = "only the journal is kept after exit"
		}
		j.program.say("Redis and WeChat are inside this process: nothing is sent to anybody, and %s.", kept)
	}
	return stop
}

// The embedded Redis lives in this process' memory, and runs Lua in it: much garbage.
const (
	embeddedMemory = 256 << 20
	embeddedGC     = 300
	indexMemory    = 128 // for each outcome of the journal, generously
)

func (j *fileRun) run() (err error) {
	ctx, cancel := context.WithCancelCause(j.program.ctx)
	defer cancel(nil)
	j.cancel = cancel
	credentials := anySecret
	if !j.command.Sandbox {
		credentials = configured(j.cfg.Apps)
	}
	if j.parts, err = join(j.cfg, j.program.logger(), credentials); err != nil {
		return err
	}
	defer j.parts.close()
	if err := reach(ctx, j.cfg.Redis, j.parts.rdb); err != nil {
		return err
	}
	if j.record != nil {
		j.parts.hooks = j.hooks()
		j.restoreDay(ctx)
	}
	if !j.alone() {
		if err := keepsEverything(ctx, j.cfg.Redis, j.parts.rdb, j.parts.log); err != nil {
			return err
		}
	}
	j.running, j.stopRunning = context.WithCancel(context.WithoutCancel(ctx))
	defer j.stopRunning()
	if !j.anyApp {
		if err := j.startReplica(j.apps); err != nil {
			return err
		}
	}
	started := time.Now()
	fed := j.drive(ctx)
	return j.finish(ctx, fed, time.Since(started))
}

// drive feeds the stream and waits for the outcomes.
func (j *fileRun) drive(ctx context.Context) error {
	reader := j.cfg.Redis.NewClient()
	j.out = newJSONLines(j.program.stderr.Beside(j.program.stdout))
	j.warned = make(map[string]bool)
	j.others = differing{program: j.program, input: j.input.name}
	options := ingest.Options{
		Client: j.parts.client, Admit: j.admit, Bad: j.bad, Enqueued: j.enqueued, Duplicate: j.duplicate,
	}
	if j.record != nil {
		options.Ended = j.recall
		j.record.start(j)
	}
	j.ingest = ingest.NewRunner(ingest.RunnerOptions{
		Options: options,
		Reader:  tasks.NewClient(reader), StopReading: func() { _ = reader.Close() },
		Window: j.window, Result: j.result, Trouble: j.trouble,
	})
	j.progress = newProgress(j)
	j.progress.start(ctx)
	fed := j.ingest.Run(ctx, taskfile.New(j.input))
	j.stopRunning()
	j.replicas.Wait()
	j.ingest.Close(context.WithoutCancel(ctx))
	if j.record != nil {
		j.record.finish()
	}
	j.progress.stop()
	j.others.rest()
	if err := j.out.flush(); err != nil {
		return errors.Join(fed, fmt.Errorf("write the results: %w", err))
	}
	return fed
}

// startReplica starts a worker for some apps.
func (j *fileRun) startReplica(apps []worker.App) error {
	replica, err := j.parts.replica(apps, nil)
	if err != nil {
		return err
	}
	j.replicas.Go(func() {
		if err := replica.Run(j.running); err != nil {
			j.mu.Lock()
			defer j.mu.Unlock()
			j.unclean = errors.Join(j.unclean, err)
		}
	})
	return nil
}

// mostApps bounds the apps of a rehearsal: each is met for the first time in the file,
// and gets a worker of its own then.
const mostApps = 500

// admit tells whether tasks of an app can be sent.
func (j *fileRun) admit(_ context.Context, app string) error {
	if !j.anyApp {
		return knownApp(j.apps, app, j.program.where())
	}
	if len(j.apps) == mostApps {
		return fmt.Errorf("app: %s is one more than the %d that a rehearsal serves", app, mostApps)
	}
	one := worker.App{ID: app}
	j.mu.Lock()
	j.apps = append(j.apps, one)
	j.mu.Unlock()
	return j.startReplica([]worker.App{one})
}

func knownApp(apps []worker.App, app, where string) error {
	for _, a := range apps {
		if a.ID == app {
			return nil
		}
	}
	return fmt.Errorf("app: %s is not configured: add it to apps in %s, with its secret", app, where)
}
