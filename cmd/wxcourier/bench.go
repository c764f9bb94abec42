package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/wxcourier/wxcourier/internal/loadtest"
)

type benchCommand struct {
	Tasks       int           `placeholder:"N" help:"Tasks to enqueue and drain. Default: 20,000; less with --limit, and in the embedded Redis."`
	Type        string        `default:"send:subscribe" placeholder:"TYPE" help:"Their type (default ${default})."`
	Latency     time.Duration `default:"30ms" placeholder:"D" help:"What WeChat takes to answer (default ${default})."`
	Limit       int           `placeholder:"N" help:"Calls a second that WeChat allows. Default: as many as the machine makes."`
	Replicas    int           `default:"1" placeholder:"N" help:"Worker processes (default ${default})."`
	Concurrency int           `default:"64" placeholder:"N" help:"Calls under way at the same time, in each of them (default ${default})."`
	Redis       string        `placeholder:"ADDR" help:"Use the Redis at this address. Default: the configured one, else a redis-server that is started for this, else one inside the process."`
	JSON        bool          `name:"json" help:"Print the figures as JSON."`
}

func (benchCommand) Help() string {
	return `Measures what a deployment would do on this machine: how fast tasks are enqueued and drained, what they cost in CPU, memory and Redis commands, and how long they take at a steady rate. The workers are processes of this program, WeChat is a stand-in: nothing is sent to anybody.

It works for an app id that it makes up, beside whatever else a shared Redis holds, and takes away at the end, also after Ctrl-C, all that it has put there. It loads that Redis all the while.

Fewer than some ten thousand tasks measure the start of the processes rather than their work. Other work on the machine, and the stand-in itself, take from the figures.

Examples:
    wxcourier bench
    wxcourier bench --tasks 100000 --replicas 2 --latency 80ms --concurrency 200
    wxcourier bench --limit 100 --type scheme:generate
    wxcourier bench --redis 10.0.0.5:6379 --json > figures.json`
}

// Run measures and prints.
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
	place := options.Target.Redis
	rdb := place.NewClient()
	defer func() { _ = rdb.Close() }()
	if err := pingRedis(p.ctx, place, rdb); err != nil {
		return loadtest.Report{}, err
	}
	if options.Target.Kind == loadtest.Embedded {
		p.notef("There is no redis-server here: the figures are those of the embedded Redis.")
	}
	return loadtest.Run(p.ctx, options)
}

// benchError tells a wrong command line from a failure.
func benchError(err error) error {
	var usage *loadtest.UsageError
	if errors.As(err, &usage) {
		return usageErrorf("bench: %s", strings.ReplaceAll(err.Error(), "\n", "\nbench: "))
	}
	return fmt.Errorf("bench: %w", err)
}
