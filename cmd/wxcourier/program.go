package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/alecthomas/kong"

	"github.com/wxcourier/wxcourier/configs"
	"github.com/wxcourier/wxcourier/internal/console"
	"github.com/wxcourier/wxcourier/internal/journal"
)

// The exit statuses.
const (
	statusDone   = 0
	statusFailed = 1
	statusUsage  = 2
)

// Main is the program, apart from the process that it runs in.
type Main struct {
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer
	Env    []string // as os.Environ gives it

	journal []journal.Option // of the journals that it opens
	confirm time.Duration    // of check --repair; 0 is repairConfirm
}

// commands is the command line.
type commands struct {
	Config    string `short:"c" placeholder:"FILE" help:"Configuration file. Default: $$WXCOURIER_CONFIG, else ./wxcourier.yaml where it exists, else the defaults."`
	LogLevel  string `enum:"debug,info,warn,error," default:"" placeholder:"LEVEL" help:"debug, info, warn or error. Default: info for worker and dev, warn for the others."`
	LogFormat string `enum:"text,json" default:"text" help:"text or json."`

	Run     runCommand     `cmd:"" help:"Enqueue a file, deliver it and print one result for each task."`
	Dev     devCommand     `cmd:"" help:"Try everything in one process: Redis, WeChat, a worker and the asynq web UI."`
	Worker  workerCommand  `cmd:"" help:"Run a replica that delivers what is enqueued."`
	Enqueue enqueueCommand `cmd:"" help:"Hand the tasks of a file over to the workers."`
	Results resultsCommand `cmd:"" help:"List how tasks ended."`
	Status  statusCommand  `cmd:"" help:"Show what waits, what is held and how much of each limit is used."`
	Cancel  cancelCommand  `cmd:"" help:"Take back tasks that have not been sent."`
	Redrive redriveCommand `cmd:"" help:"Put ended tasks back, under the same ids."`
	Hold    holdCommand    `cmd:"" help:"Stop an app, a task type or a template."`
	Release releaseCommand `cmd:"" help:"End a hold."`
	Check   checkCommand   `cmd:"" help:"Check the configuration, Redis and each app's credentials."`
	Sandbox sandboxCommand `cmd:"" help:"Serve a stand-in for WeChat's server API."`
	Bench   benchCommand   `cmd:"" help:"Measure on this machine what a deployment would do and cost."`
	Version versionCommand `cmd:"" help:"Print the version."`

	Healthcheck healthcheckCommand `cmd:"" help:"Ask a worker whether it is ready, for container runtimes."`
}

// program is what a command runs in.
type program struct {
	ctx     context.Context //nolint:containedctx // the life of the process, which kong's Run cannot pass as a parameter
	stdin   io.Reader
	stdout  io.Writer
	stderr  *console.Console
	env     []string
	flags   *commands
	verbose bool // the command logs at info unless told otherwise
	journal []journal.Option
	confirm time.Duration
}

// A usageError is a command line or a configuration that cannot be carried out.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func usageErrorf(format string, args ...any) error {
	return &usageError{fmt.Sprintf(format, args...)}
}

// exitCode is what kong's Exit is turned into: it would end the process.
type exitCode int

// Run runs the program with its arguments (without its name) until it is done or ctx
// ends. It returns the exit status: 0 done, 1 failed, 2 usage.
func (m *Main) Run(ctx context.Context, args []string) (status int) {
	defer func() {
		switch p := recover().(type) {
		case nil:
		case exitCode:
			status = int(p)
		default:
			panic(p)
		}
	}()
	p := &program{ctx: ctx, stdin: m.Stdin, stdout: m.Stdout, stderr: console.New(m.Stderr), env: m.Env, flags: &commands{}, journal: m.journal, confirm: m.confirm}
	parser, err := kong.New(p.flags,
		kong.Name("wxcourier"),
		kong.Description("Delivers WeChat work that must not be lost, doubled or throttled away.\n\nTry it: wxcourier run --sandbox examples/tasks.jsonl"),
		kong.Writers(m.Stdout, m.Stderr),
		kong.Exit(func(code int) { panic(exitCode(code)) }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100}),
		kong.ShortUsageOnError(),
	)
	if err != nil {
		panic(err) // the structs above are not what kong takes: a test finds it
	}
	call, err := parser.Parse(args)
	if err != nil {
		_, _ = fmt.Fprintf(m.Stderr, "wxcourier: %v\nTry: wxcourier --help\n", err)
		return statusUsage
	}
	return p.status(call.Run(p))
}

// status says what went wrong, and as what the process exits.
func (p *program) status(err error) int {
	if err == nil {
		return statusDone
	}
	_, _ = fmt.Fprintf(p.stderr, "wxcourier: %v\n", err)
	var usage *usageError
	var mistakes *configs.Error
	if errors.As(err, &usage) || errors.As(err, &mistakes) {
		return statusUsage
	}
	return statusFailed
}

// configuration loads what --config and the environment say.
func (p *program) configuration() (configs.Config, error) {
	cfg, err := configs.Load(p.configFile(), p.env)
	if err != nil {
		var mistakes *configs.Error
		if errors.As(err, &mistakes) {
			return cfg, err
		}
		return cfg, usageErrorf("%v", err)
	}
	return cfg, nil
}

func (p *program) configFile() string { return configs.Find(p.flags.Config, p.env) }

// configName names the place in which the configuration is to be changed.
func (p *program) configName() string {
	if path := p.configFile(); path != "" {
		return path
	}
	return configs.DefaultFile
}

// logger writes to standard error.
func (p *program) logger() *slog.Logger {
	level := slog.LevelWarn
	if p.verbose {
		level = slog.LevelInfo
	}
	if p.flags.LogLevel != "" {
		_ = level.UnmarshalText([]byte(p.flags.LogLevel)) // the flag is an enum
	}
	options := &slog.HandlerOptions{Level: level}
	if p.flags.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(p.stderr, options))
	}
	return slog.New(slog.NewTextHandler(p.stderr, options))
}

// notef tells the person at the terminal something.
func (p *program) notef(format string, args ...any) {
	_, _ = fmt.Fprintf(p.stderr, format+"\n", args...)
}
