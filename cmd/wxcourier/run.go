package main

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/wxcourier/wxcourier/configs"
	"github.com/wxcourier/wxcourier/internal/feed"
	"github.com/wxcourier/wxcourier/internal/tally"
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
	Quiet   bool        `short:"q" help:"No progress and no summary."`
}

func (runCommand) Help() string {
	return `Enqueues each line, delivers it with a worker inside this process, and prints one result for each task to standard output, as JSON Lines in the order in which they ended. A line that is no task is told on standard error and skipped. The status is 0 when each line has an outcome, and 1 when there were bad lines or tasks that failed or whose outcome is unknown.

Without --sandbox it needs a configured Redis. There, ids keep a task from being sent twice: a run that was broken off is continued by the same command.

A task with process_at is waited for. Ctrl-C finishes what is in hand and leaves the rest; a second one quits at once.

Examples:
    wxcourier run --sandbox examples/tasks.jsonl
    wxcourier run tasks.jsonl -c wxcourier.yaml > results.jsonl
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
	j := &job{command: c, program: p, input: in, cfg: cfg, apps: workerApps(cfg.Apps), window: windowRedis, images: c.Images}
	if c.Sandbox {
		stop, err := j.rehearse()
		if err != nil {
			return err
		}
		defer stop()
	}
	return j.run()
}

// possible refuses what could not end well.
func (c *runCommand) possible(p *program, cfg configs.Config) error {
	switch {
	case c.Sandbox:
		return nil
	case !cfg.Redis.Configured():
		return misuse("run sends to WeChat and needs a Redis that remembers it: after a broken-off run, a repeated one would send everything twice.\nSet redis.addrs in %s (or $WXCOURIER_REDIS_ADDRS), or try the file with --sandbox, which sends nothing.", p.where())
	case len(cfg.Apps) == 0:
		return misuse("no app is configured.\nAdd apps with their ids and secrets to %s (or set $WXCOURIER_APPS_<APPID>_SECRET), or try the file with --sandbox.", p.where())
	}
	return nil
}

// job is one run.
type job struct {
	command *runCommand
	program *program
	input   *input
	cfg     configs.Config
	apps    []worker.App // that there are credentials for; with anyApp those that were met
	anyApp  bool
	window  int
	images  imageFolder

	parts    *parts
	feed     *feed.Job
	out      *jsonLines
	progress *progress
	cancel   context.CancelCauseFunc // breaks the run off

	replicas    sync.WaitGroup
	running     context.Context    //nolint:containedctx // the life of the replicas, which begin with their apps
	stopRunning context.CancelFunc // begins the replicas' shutdown

	mu         sync.Mutex // guards what follows
	tally      tally.Tally
	warned     map[string]bool // types whose warning was told
	imageFails int
	unclean    error // of a replica's Run
}

// rehearse puts a Redis and a WeChat inside the process in place of the configured ones:
// tokens and tasks of a rehearsal have no place in a Redis that others use.
func (j *job) rehearse() (stop func(), err error) {
	j.anyApp = len(j.apps) == 0
	for i := range j.apps {
		j.apps[i].Hours = nil // it wakes nobody, and is to end tonight
	}
	j.window = windowEmbedded
	j.cfg.Results = embeddedResults()
	stopRedis, err := startEmbedded(&j.cfg)
	if err != nil {
		return nil, err
	}
	// Nobody can ask this sandbox what it was asked, so it need not remember it.
	stopWeChat := startSandbox(&j.cfg, sandbox.Options{KeepCalls: 1, KeepMessages: 1})
	limit := debug.SetMemoryLimit(embeddedMemory)
	percent := debug.SetGCPercent(embeddedGC)
	if !j.command.Quiet {
		j.program.say("Redis and WeChat are inside this process: nothing is sent to anybody, and nothing is kept after exit.")
	}
	return func() {
		debug.SetGCPercent(percent)
		debug.SetMemoryLimit(limit)
		stopWeChat()
		stopRedis()
	}, nil
}

// The embedded Redis lives in this process' memory, and runs Lua in it: much garbage.
const (
	embeddedMemory = 256 << 20
	embeddedGC     = 300
)

func (j *job) run() (err error) {
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
	if !j.command.Sandbox {
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
func (j *job) drive(ctx context.Context) error {
	reader := j.cfg.Redis.NewClient()
	j.out = newJSONLines(j.program.stderr.Beside(j.program.stdout))
	j.warned = make(map[string]bool)
	j.feed = feed.NewJob(feed.JobOptions{
		Options: feed.Options{
			Client: j.parts.client, Admit: j.admit, Bad: j.bad, Enqueued: j.enqueued, Duplicate: j.duplicate,
		},
		Reader: tasks.NewClient(reader), StopReading: func() { _ = reader.Close() },
		Window: j.window, Result: j.result, Trouble: j.trouble,
	})
	j.progress = newProgress(j)
	j.progress.start(ctx)
	fed := j.feed.Run(ctx, taskfile.New(j.input))
	j.stopRunning()
	j.replicas.Wait()
	j.feed.Close(context.WithoutCancel(ctx))
	j.progress.stop()
	if err := j.out.flush(); err != nil {
		return errors.Join(fed, fmt.Errorf("write the results: %w", err))
	}
	return fed
}

// startReplica starts a worker for some apps.
func (j *job) startReplica(apps []worker.App) error {
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
func (j *job) admit(_ context.Context, app string) error {
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
