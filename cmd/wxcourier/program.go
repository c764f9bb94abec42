package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/alecthomas/kong"

	"github.com/wxcourier/wxcourier/configs"
	"github.com/wxcourier/wxcourier/internal/app"
	"github.com/wxcourier/wxcourier/internal/console"
)

// Exit statuses.
const (
	statusDone   = 0
	statusFailed = 1
	statusUsage  = 2
)

// Main is the program without the process that runs it, so that tests can run it too.
type Main struct {
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer
	Env    []string // as os.Environ gives it
	// Command is what the user types to start the program, for messages; default: its name.
	Command string
}

// programName is the name of the program.
const programName = "wxcourier"

// commands is the command line, as kong parses it.
type commands struct {
	Config    string `short:"c" placeholder:"FILE" help:"Configuration file. Default: $$WXCOURIER_CONFIG, else ./wxcourier.yaml where it exists, else the defaults."`
	LogLevel  string `enum:"debug,info,warn,error," default:"" placeholder:"LEVEL" help:"debug, info, warn or error. Default: info for worker and dev, warn for the others."`
	LogFormat string `enum:"text,json" default:"text" help:"text or json."`

	Run      runCommand      `cmd:"" help:"Enqueue a file, deliver it and print one result per task."`
	Dev      devCommand      `cmd:"" help:"Try everything in one process: Redis, WeChat, a worker, the gateway and the asynq web UI."`
	Worker   workerCommand   `cmd:"" help:"Run a replica that delivers enqueued tasks."`
	Gateway  gatewayCommand  `cmd:"" help:"Serve the HTTP API, for producers in any language."`
	Enqueue  enqueueCommand  `cmd:"" help:"Enqueue the tasks of a file for the workers."`
	Send     sendCommand     `cmd:"" help:"Send one message to each row of a table."`
	Results  resultsCommand  `cmd:"" help:"List the results of ended tasks."`
	Status   statusCommand   `cmd:"" help:"Show waiting tasks, holds and the use of each limit."`
	Task     taskCommand     `cmd:"" help:"Show where a task is, what it waits for and what happened to it."`
	Cancel   cancelCommand   `cmd:"" help:"Cancel tasks that have not been sent."`
	Redrive  redriveCommand  `cmd:"" help:"Enqueue ended tasks again, under the same ids."`
	Hold     holdCommand     `cmd:"" help:"Stop an app, a task type or a template."`
	Release  releaseCommand  `cmd:"" help:"End a hold."`
	Key      keyCommand      `cmd:"" help:"Maintain the keys of the gateway's clients."`
	Webhooks webhooksCommand `cmd:"" help:"List the endpoints that get results, test them, and send results again."`
	Audit    auditCommand    `cmd:"" help:"List who held, released, canceled and redrove what."`
	Quota    quotaCommand    `cmd:"" help:"Ask WeChat for today's quotas, or clear them."`
	Call     callCommand     `cmd:"" help:"Call WeChat's server API under the limits of the workers."`
	Check    checkCommand    `cmd:"" help:"Check the configuration, Redis and each app's credentials."`
	Sandbox  sandboxCommand  `cmd:"" help:"Serve a stand-in for WeChat's server API."`
	Bench    benchCommand    `cmd:"" help:"Measure the speed and cost of a deployment on this machine."`
	Version  versionCommand  `cmd:"" help:"Print the version."`

	Templates templatesCommand `cmd:"" help:"List the message templates of apps, with their fields."`
	Authorize authorizeCommand `cmd:"" help:"Print the link with which an account authorizes a service provider."`

	Healthcheck healthcheckCommand `cmd:"" help:"Check whether a worker or a gateway is ready, for container runtimes."`
}

// program is the environment that a command runs in: streams, flags, configuration.
type program struct {
	ctx     context.Context //nolint:containedctx // the life of the process, which kong's Run cannot pass as a parameter
	stdin   io.Reader
	stdout  io.Writer
	stderr  *console.Console
	env     []string
	command string // see Main
	flags   *commands
	verbose bool // log at info by default
}

// A usageError is an error in the command line or the configuration; the exit status is 2.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func usageErrorf(format string, args ...any) error {
	return &usageError{fmt.Sprintf(format, args...)}
}

// exitCode is the value that kong's Exit panics with, in place of ending the process.
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
	p := &program{ctx: ctx, stdin: m.Stdin, stdout: m.Stdout, stderr: console.New(m.Stderr), env: m.Env, command: cmp.Or(m.Command, programName), flags: &commands{}}
	parser, err := kong.New(p.flags,
		kong.Name(programName),
		kong.Description("Delivers WeChat messages and API calls: none lost, none doubled, within WeChat's limits.\n\nTry it: wxcourier run --sandbox examples/tasks.jsonl"),
		kong.Writers(m.Stdout, m.Stderr),
		kong.Exit(func(code int) { panic(exitCode(code)) }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100}),
		kong.ShortUsageOnError(),
	)
	if err != nil {
		panic(err) // an error in the structs above, which every test finds
	}
	call, err := parser.Parse(args)
	if err != nil {
		_, _ = fmt.Fprintf(m.Stderr, "wxcourier: %v\nTry: %s --help\n", err, p.command)
		return statusUsage
	}
	return p.status(call.Run(p))
}

// status prints the error and returns the exit status.
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

// configuration loads the file and the environment. Its errors are usage errors.
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

// configName returns the name of the configuration file for messages, also when there is none yet.
func (p *program) configName() string {
	if path := p.configFile(); path != "" {
		return path
	}
	return configs.DefaultFile
}

// logger returns a logger that writes to standard error.
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

// needRedis loads the configuration, and returns a usage error when it has no Redis.
func (p *program) needRedis(command string) (configs.Config, error) {
	cfg, err := p.configuration()
	if err == nil && !cfg.Redis.Configured() {
		err = usageErrorf("%s: no Redis is configured.\nSet redis.addrs in %s, or $WXCOURIER_REDIS_ADDRS=host:6379.", command, p.configName())
	}
	return cfg, err
}

// connect makes the parts, and checks that Redis answers; the caller closes them.
func (p *program) connect(command string) (*app.Parts, error) {
	cfg, err := p.needRedis(command)
	if err != nil {
		return nil, err
	}
	return app.Open(p.ctx, cfg, p.logger(), nil)
}

// unlessInterrupted returns err, or after a signal an error that says how to continue.
func (p *program) unlessInterrupted(err error) error {
	if p.ctx.Err() != nil {
		return errors.New("interrupted; repeat the command to finish")
	}
	return err
}
