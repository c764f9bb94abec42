package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/redisserver"
	"github.com/wxcourier/wxcourier/internal/subprocess"
	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/tasks"
)

// labConfig configures a lab.
type labConfig struct {
	apps       int
	margin     float64                    // 0: the program's default
	limits     map[string]ratelimit.Limit // of every app; omitted ones keep their defaults
	latency    time.Duration              // of the stand-in's answers
	token      time.Duration              // latency of the token endpoint, if longer
	jitter     time.Duration              // of the network between workers and stand-in; 0: no proxy
	redisDelay time.Duration              // one-way delay between workers and Redis; 0: no proxy
}

// lab is the environment of one measurement: a Redis, a stand-in for WeChat, and workers, each in its
// own process. Each measurement gets a new one.
type lab struct {
	bench       *bench
	dir         string
	config      string
	server      *redisserver.Server
	redis       string // its address
	workerRedis string // the address of Redis for the workers, perhaps a proxy's
	wechat      string // the stand-in's URL
	rdb         *redis.Client
	client      *tasks.Client
	ctx         context.Context //nolint:containedctx // its end kills the lab's processes
	cancel      context.CancelFunc
	proxies     []*jitterProxy
	keys        atomic.Int64          // the number of the latest task
	helpers     []*subprocess.Process // the stand-ins, the spinner

	mu      sync.Mutex
	workers []*subprocess.Process // guarded by mu; running
	stopped []*subprocess.Process // guarded by mu; stopped or killed by the case
	started int                   // guarded by mu
}

// appID returns the id of the n-th app.
func appID(n int) string { return fmt.Sprintf("wx%016x", n+1) }

// newLab starts a lab without workers. The caller closes it.
func (b *bench) newLab(ctx context.Context, s labConfig) (l *lab, err error) {
	l = &lab{bench: b}
	ctx, cancel := context.WithCancel(ctx)
	l.ctx, l.cancel = ctx, cancel
	defer func() {
		if err != nil {
			l.close()
		}
	}()
	if l.dir, err = os.MkdirTemp(b.dir, "lab"); err != nil {
		return l, err
	}
	if l.server, err = redisserver.Start(ctx, redisserver.Config{Log: l.logFile("redis")}); err != nil {
		return l, err
	}
	l.redis = l.server.Addr()
	l.rdb = redis.NewClient(&redis.Options{Addr: l.redis})
	l.client = tasks.NewClient(l.rdb)
	if err = l.startStandIn(ctx, s); err != nil {
		return l, err
	}
	base := l.wechat
	if s.jitter > 0 {
		addr, err := l.proxied(strings.TrimPrefix(l.wechat, "http://"), 0, s.jitter)
		if err != nil {
			return l, err
		}
		base = "http://" + addr
	}
	l.workerRedis = l.redis
	if s.redisDelay > 0 {
		if l.workerRedis, err = l.proxied(l.redis, s.redisDelay, 0); err != nil {
			return l, err
		}
	}
	l.config = filepath.Join(l.dir, "wxcourier.yaml")
	return l, os.WriteFile(l.config, []byte(s.yaml(l.workerRedis, base)), 0o600)
}

// proxied starts a proxy in front of target and returns its address.
func (l *lab) proxied(target string, delay, jitter time.Duration) (string, error) {
	p, err := startProxy(l.ctx, target, delay, jitter)
	if err != nil {
		return "", err
	}
	l.proxies = append(l.proxies, p)
	return p.addr(), nil
}

// yaml returns the workers' configuration.
func (s labConfig) yaml(redisAddr, wechatURL string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "redis: {addrs: [%q]}\nwechat: {base_url: %q}\n", redisAddr, wechatURL)
	if s.margin > 0 {
		fmt.Fprintf(&b, "pace: {margin: %v}\n", s.margin)
	}
	b.WriteString("apps:\n")
	limits, err := json.Marshal(s.limits) // JSON is YAML, and the names are the same
	if err != nil {
		panic(err) // cannot happen for a map of numbers
	}
	for n := range s.apps {
		fmt.Fprintf(&b, "  - id: %s\n    secret: bench\n", appID(n))
		if len(s.limits) > 0 {
			fmt.Fprintf(&b, "    limits: %s\n", limits)
		}
	}
	return b.String()
}

// close kills all processes and deletes the lab's files.
func (l *lab) close() {
	l.cancel() // kills the running processes
	l.mu.Lock()
	all := slices.Concat(l.helpers, l.workers, l.stopped)
	l.mu.Unlock()
	for _, p := range all {
		p.Kill()
	}
	for _, p := range l.proxies {
		p.running.Wait()
	}
	if l.rdb != nil {
		l.client.Close()
		_ = l.rdb.Close()
	}
	if l.server != nil {
		l.server.Close()
	}
	if l.dir != "" && !l.bench.keep {
		_ = os.RemoveAll(l.dir)
	}
}

func (l *lab) logFile(name string) string { return filepath.Join(l.dir, name+".log") }

// standInURL is what a stand-in prints when it listens.
var standInURL = regexp.MustCompile(`(http://\S+)\n`)

func (l *lab) startStandIn(ctx context.Context, s labConfig) error {
	p, err := l.start("standin"+strconv.Itoa(len(l.helpers)+1), l.bench.self, modeStandIn, "-latency", s.latency.String(), "-token", max(s.latency, s.token).String())
	if err != nil {
		return err
	}
	l.helpers = append(l.helpers, p)
	ctx, cancel := context.WithTimeoutCause(ctx, 10*time.Second, errors.New("no output in time"))
	defer cancel()
	found, err := p.WaitForOutput(ctx, standInURL)
	if err != nil {
		return fmt.Errorf("the stand-in did not start: %w", err)
	}
	l.wechat = found[1]
	return nil
}

// keepCoreBusy starts a process that keeps one core busy.
func (l *lab) keepCoreBusy() error {
	p, err := l.start("spin", l.bench.self, modeSpin)
	if err == nil {
		l.helpers = append(l.helpers, p)
	}
	return err
}

// startWorkers starts n more worker processes.
func (l *lab) startWorkers(n int) error {
	for range n {
		if err := l.startWorker(l.bench.binary, "worker", "-c", l.config); err != nil {
			return err
		}
	}
	return nil
}

func (l *lab) startWorker(command ...string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.started++
	p, err := l.start("worker"+strconv.Itoa(l.started), command...)
	if err == nil {
		l.workers = append(l.workers, p)
	}
	return err
}

// start starts a program whose output goes to the log file of that name.
func (l *lab) start(name string, command ...string) (*subprocess.Process, error) {
	return subprocess.Start(l.ctx, subprocess.Command{Name: name, Path: command[0], Args: command[1:], Log: l.logFile(name)})
}

// takeOldestWorker moves the oldest worker from l.workers to l.stopped and returns it. The
// caller ends it.
func (l *lab) takeOldestWorker() *subprocess.Process {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.workers[0]
	l.workers = l.workers[1:]
	l.stopped = append(l.stopped, p)
	return p
}

// checkProcesses returns an error when a process exited unexpectedly.
func (l *lab) checkProcesses() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	errs := []error{l.server.Process().ExitError()}
	for _, p := range slices.Concat(l.helpers, l.workers) {
		errs = append(errs, p.ExitError())
	}
	return errors.Join(errs...)
}

// workerCPU returns the CPU time of all workers so far, including stopped ones.
func (l *lab) workerCPU() (sum time.Duration, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range slices.Concat(l.stopped, l.workers) {
		d, err := p.CPU()
		if err != nil {
			return 0, err
		}
		sum += d
	}
	return sum, nil
}
