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

	"github.com/wxcourier/wxcourier/tasks"
)

// run is one measurement.
type run struct {
	options Options
	app     string // made up: nobody's
	body    string // of each task; OPENID stands for the receiver
	dir     string // of the workers' configuration
	rdb     redis.UniversalClient
	client  *tasks.Client

	sandbox    *process
	sandboxURL string     // the sandbox's address
	workers    []*process // that run now
	pids       []int      // of all workers so far
	report     Report
}

// sweepTimeout bounds the cleaning up, which takes some µs a task.
const sweepTimeout = 5 * time.Minute

// ErrInterrupted says that ctx ended before all was measured.
var ErrInterrupted = errors.New("broken off")

// Run measures. The error is a *UsageError for options that cannot be carried out, and
// ErrBrokenOff when ctx ended; what was begun is ended and taken away in any case.
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
	if left := r.cleanUp(ctx); left != nil {
		err = errors.Join(err, left)
	}
	return r.report, err
}

// setUp does what leaves no trace in Redis yet.
func (r *run) setUp(ctx context.Context) error {
	m, err := readRedisStats(ctx, r.rdb)
	if err != nil {
		return err
	}
	if m.cluster {
		return &UsageError{fmt.Errorf("--redis: %s is a node of a cluster, whose figures are those of all its nodes; name a single Redis", r.options.Target.Redis.Address())}
	}
	digits := make([]byte, 8)
	_, _ = rand.Read(digits) // it never fails
	r.app = "wx" + hex.EncodeToString(digits)
	r.client = tasks.NewClient(r.rdb)
	spec, _ := tasks.Lookup(r.options.Type)
	r.body = spec.Example
	r.report = newReport(r.options, m.version)
	if r.dir, err = os.MkdirTemp("", "wxcourier-bench"); err != nil {
		return fmt.Errorf("make a folder for the workers' configuration: %w", err)
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

// cleanUp takes everything away, also when ctx has ended.
func (r *run) cleanUp(ctx context.Context) error {
	r.options.Progress("cleaning up")
	r.stopWorkers()
	if r.sandbox != nil {
		r.sandbox.stop()
		delivered := r.report.Drain.Tasks + r.report.EndToEnd.Tasks
		r.report.SandboxCPU = per100k(r.sandbox.usage().cpu, delivered)
	}
	_ = os.RemoveAll(r.dir)
	if r.options.Target.ephemeral() {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), sweepTimeout)
	defer cancel()
	return sweep(ctx, r.rdb, r.app, r.pids)
}

var listenPattern = regexp.MustCompile(`listens on (http://[^\s]+)`)

// childStartTimeout is within what a child must be there.
const childStartTimeout = 30 * time.Second

// startSandbox starts the stand-in for WeChat, and learns its address from what it says.
func (r *run) startSandbox(ctx context.Context) (err error) {
	r.sandbox, err = start(ctx, command{
		name: "the stand-in for WeChat", path: r.options.Self,
		args: []string{"sandbox", "--listen", "127.0.0.1:0", "--no-limits", "--latency", r.options.Latency.String()},
		env:  childEnv(os.Environ()),
		dir:  r.dir,
	})
	if err != nil {
		return err
	}
	late := time.After(childStartTimeout)
	for {
		said, more := r.sandbox.output.snapshot()
		if found := listenPattern.FindStringSubmatch(said); found != nil {
			r.sandboxURL = found[1]
			return nil
		}
		select {
		case <-more:
		case <-r.sandbox.done:
			return r.sandbox.exitError()
		case <-late:
			return errors.New("the stand-in for WeChat does not start")
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// startWorkers starts the replicas. streamMax is how many results are to be kept.
func (r *run) startWorkers(ctx context.Context, streamMax int) error {
	config, err := r.writeConfig(streamMax)
	if err != nil {
		return err
	}
	for i := range r.options.Replicas {
		p, err := start(ctx, command{
			name: "worker " + strconv.Itoa(i+1), path: r.options.Self,
			args: []string{"worker", "--config", config, "--log-level", "warn"},
			env:  childEnv(os.Environ()),
			dir:  r.dir,
		})
		if err != nil {
			return err
		}
		r.workers = append(r.workers, p)
		r.pids = append(r.pids, p.cmd.Process.Pid)
	}
	return nil
}

// stopWorkers ends the replicas and tells what they have used.
func (r *run) stopWorkers() usage {
	var all usage
	for _, p := range r.workers {
		p.interrupt()
	}
	for _, p := range r.workers {
		p.stop()
		all = all.add(p.usage())
	}
	r.workers = nil
	return all
}

// checkChildren is an error when a child has ended.
func (r *run) checkChildren() error {
	for _, p := range append(r.workers[:len(r.workers):len(r.workers)], r.sandbox) {
		select {
		case <-p.done:
			return p.exitError()
		default:
		}
	}
	return nil
}

// envelope is the task of a number. Each has a receiver of its own: messages to one
// person wait for each other.
func (r *run) envelope(kind string, i int) tasks.Envelope {
	openid := fmt.Sprintf("oBench%022d", i)
	return tasks.Envelope{
		Type: r.options.Type, App: r.app, ID: fmt.Sprintf("%s-%08d", kind, i),
		Body: []byte(strings.ReplaceAll(r.body, "OPENID", openid)),
	}
}
