package loadtest

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/redisinfo"
	"github.com/wxcourier/wxcourier/internal/subprocess"
	"github.com/wxcourier/wxcourier/tasks"
)

// run is the state of one load test.
type run struct {
	options   Options
	app       string // random
	body      string // of each task; OPENID stands for the receiver
	dir       string // of the workers' configuration
	rdb       redis.UniversalClient
	client    *tasks.Client
	inspector *tasks.Inspector

	sandbox    *subprocess.Process
	sandboxURL string                // the sandbox's address
	workers    []*subprocess.Process // running
	pids       []int                 // of all workers so far
	report     Report
}

// sweepTimeout bounds the deletion of keys, which takes a few µs per task.
const sweepTimeout = 5 * time.Minute

// ErrInterrupted is returned when ctx ends before the run is complete.
var ErrInterrupted = errors.New("interrupted")

// Run runs a load test. The error is a *UsageError for invalid options, and ErrInterrupted when ctx
// ended. In any case Run stops all processes and deletes all keys that it made.
func Run(ctx context.Context, o Options) (Report, error) {
	if err := o.Validate(); err != nil {
		return Report{}, err
	}
	if err := o.setDefaults(); err != nil {
		return Report{}, err
	}
	r := &run{options: o, rdb: o.Target.Redis.NewClient()}
	defer func() { _ = r.rdb.Close() }()
	err := r.setUp(ctx)
	if err != nil {
		return Report{}, err
	}
	err = r.phases(ctx)
	if ctx.Err() != nil {
		err = ErrInterrupted
	}
	if cleanErr := r.cleanUp(ctx); cleanErr != nil {
		err = errors.Join(err, cleanErr)
	}
	return r.report, err
}

// setUp prepares the run. It writes nothing to Redis.
func (r *run) setUp(ctx context.Context) error {
	info, err := readInfo(ctx, r.rdb)
	if err != nil {
		return err
	}
	if info[redisinfo.Cluster] == "1" {
		return &UsageError{fmt.Errorf("--redis: %s is a node of a cluster, whose figures are spread over its nodes; give a single Redis", r.options.Target.Redis.Address())}
	}
	digits := make([]byte, 8)
	_, _ = rand.Read(digits) // never fails
	r.app = "wx" + hex.EncodeToString(digits)
	r.client, r.inspector = tasks.NewClient(r.rdb), tasks.NewInspector(r.rdb)
	spec, _ := tasks.Lookup(r.options.Type)
	r.body = spec.Example
	r.report = newReport(r.options, info[redisinfo.Version])
	if r.dir, err = os.MkdirTemp("", "wxcourier-bench"); err != nil {
		return fmt.Errorf("create a folder for the workers' configuration: %w", err)
	}
	return nil
}

func (r *run) phases(ctx context.Context) error {
	if err := r.startSandbox(ctx); err != nil {
		return err
	}
	for _, phase := range []func(context.Context) error{r.enqueue, r.drain, r.endToEnd} {
		if err := phase(ctx); err != nil {
			return err
		}
	}
	return nil
}

// cleanUp stops all processes and deletes all keys of the run, also when ctx has ended.
func (r *run) cleanUp(ctx context.Context) error {
	r.options.Progress("cleaning up")
	r.stopWorkers()
	if r.sandbox != nil {
		_ = r.sandbox.Stop()
		if cpu, err := r.sandbox.CPU(); err == nil {
			r.report.SandboxCPU = per100k(cpu, r.report.Drain.Tasks+r.report.EndToEnd.Tasks)
		}
	}
	_ = os.RemoveAll(r.dir)
	if r.client != nil {
		r.client.Close()
	}
	if r.options.Target.ephemeral() {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), sweepTimeout)
	defer cancel()
	return sweep(ctx, r.rdb, r.app, r.pids)
}

var listenPattern = regexp.MustCompile(`listens on (http://[^\s]+)`)

// childStartTimeout is the time that a child has to start.
const childStartTimeout = 30 * time.Second

// start starts this program with some arguments. The end of ctx does not kill it, so that it can
// finish its tasks in flight; cleanUp stops it.
func (r *run) start(ctx context.Context, name string, args ...string) (*subprocess.Process, error) {
	return subprocess.Start(context.WithoutCancel(ctx), subprocess.Command{
		Name: name, Path: r.options.Self, Args: args, Env: childEnv(os.Environ()), Dir: r.dir,
	})
}

// startSandbox starts the stand-in for WeChat and reads its address from its output.
func (r *run) startSandbox(ctx context.Context) (err error) {
	r.sandbox, err = r.start(ctx, "the stand-in for WeChat", "sandbox", "--listen", "127.0.0.1:0", "--no-limits", "--latency", r.options.Latency.String())
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, childStartTimeout, errors.New("the stand-in for WeChat did not start in time"))
	defer cancel()
	found, err := r.sandbox.WaitForOutput(ctx, listenPattern)
	if err != nil {
		return err
	}
	r.sandboxURL = found[1]
	return nil
}

// startWorkers starts the replicas. streamMax is their results.stream_max_len.
func (r *run) startWorkers(ctx context.Context, streamMax int) error {
	config, err := r.writeConfig(streamMax)
	if err != nil {
		return err
	}
	for i := range r.options.Replicas {
		p, err := r.start(ctx, "worker "+strconv.Itoa(i+1), "worker", "--config", config, "--log-level", "warn")
		if err != nil {
			return err
		}
		r.workers = append(r.workers, p)
		r.pids = append(r.pids, p.PID())
	}
	return nil
}

// stopWorkers stops the replicas and returns their processes.
func (r *run) stopWorkers() []*subprocess.Process {
	stopped := r.workers
	r.workers = nil
	for _, p := range stopped {
		p.Terminate()
	}
	for _, p := range stopped {
		_ = p.Stop() // it has exited, whether by itself or killed
	}
	return stopped
}

// checkChildren returns an error when a child has exited.
func (r *run) checkChildren() error {
	for _, p := range r.workers {
		if err := p.ExitError(); err != nil {
			return err
		}
	}
	return r.sandbox.ExitError()
}

// envelope returns the i-th task. Each task has its own receiver, since messages to one person are
// sent one at a time.
func (r *run) envelope(kind string, i int) tasks.Envelope {
	openid := fmt.Sprintf("oBench%022d", i)
	return tasks.Envelope{
		Type: r.options.Type, App: r.app, ID: fmt.Sprintf("%s-%08d", kind, i),
		Body: []byte(strings.ReplaceAll(r.body, "OPENID", openid)),
	}
}
