package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/wxcourier/wxcourier/internal/app"
	"github.com/wxcourier/wxcourier/internal/loadtest"
)

type benchCommand struct {
	Tasks       int           `placeholder:"N" help:"Tasks to enqueue and drain. Default: 20,000; fewer with --limit and with the embedded Redis."`
	Type        string        `default:"send:subscribe" placeholder:"TYPE" help:"Task type (default ${default})."`
	Latency     time.Duration `default:"30ms" placeholder:"D" help:"Response time of WeChat (default ${default})."`
	Limit       int           `placeholder:"N" help:"Calls per second that WeChat allows. Default: no limit."`
	Replicas    int           `default:"1" placeholder:"N" help:"Worker processes (default ${default})."`
	Concurrency int           `default:"64" placeholder:"N" help:"Concurrent calls per worker process (default ${default})."`
	Redis       string        `placeholder:"ADDR" help:"Use the Redis at this address. Default: the configured one, else a redis-server started for this run, else one inside the process."`
	JSON        bool          `name:"json" help:"Print the figures as JSON."`
}

func (benchCommand) Help() string {
	return `Measures how a deployment performs on this machine: the rates at which tasks are enqueued and drained, their cost in CPU, memory and Redis commands, and the latency at a steady rate. The workers are processes of this program and WeChat is a stand-in: no messages are sent.

The run uses a random app id, so it can share a Redis with other data. At its end, also after Ctrl-C, it deletes all its keys. It puts a heavy load on that Redis.

With fewer than about 10,000 tasks, the start of the processes dominates the figures. Other programs on the machine, and the stand-in itself, lower them.

Examples:
    wxcourier bench
    wxcourier bench --tasks 100000 --replicas 2 --latency 80ms --concurrency 200
    wxcourier bench --limit 100 --type scheme:generate
    wxcourier bench --redis 10.0.0.5:6379 --json > figures.json`
}

// Run runs the load test and prints its report.
func (c *benchCommand) Run(p *program) error {
	options := loadtest.Options{
		Tasks: c.Tasks, Type: c.Type, Latency: c.Latency, Limit: c.Limit, Replicas: c.Replicas, Concurrency: c.Concurrency,
		Progress: p.stderr.Status,
	}
	if err := options.Validate(); err != nil {
		return benchError(err)
	}
	cfg, err := p.configuration()
	if err != nil {
		return err
	}
	if options.Self, err = os.Executable(); err != nil {
		return fmt.Errorf("find this program's own file: %w", err)
	}
	if options.Target, err = loadtest.FindRedis(p.ctx, c.Redis, cfg.Redis); err != nil {
		return benchError(err)
	}
	defer options.Target.Close()
	report, err := c.measure(p, options)
	if err != nil {
		return benchError(err)
	}
	if c.JSON {
		out := json.NewEncoder(p.stdout)
		out.SetIndent("", "  ")
		return out.Encode(report)
	}
	return report.Write(p.stdout)
}

func (c *benchCommand) measure(p *program, options loadtest.Options) (loadtest.Report, error) {
	defer p.stderr.Status("")
	target := options.Target.Redis
	rdb, err := app.OpenRedis(p.ctx, target)
	if err != nil {
		return loadtest.Report{}, err
	}
	_ = rdb.Close()
	if options.Target.Kind == loadtest.Embedded {
		p.notef("redis-server is not installed: the figures are for the embedded Redis.")
	}
	return loadtest.Run(p.ctx, options)
}

// benchError turns a *loadtest.UsageError into a usage error, and wraps any other error.
func benchError(err error) error {
	var usage *loadtest.UsageError
	if errors.As(err, &usage) {
		return usageErrorf("bench: %s", strings.ReplaceAll(err.Error(), "\n", "\nbench: "))
	}
	return fmt.Errorf("bench: %w", err)
}
