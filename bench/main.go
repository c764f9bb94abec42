// Command bench measures the pace and the cost of wxcourier with real worker processes, a real Redis,
// and a stand-in for WeChat that records the arrival time of each call. README.md describes what
// each case measures, and how.
//
//	go run . -quick seconds
//	go run . -into ../BENCHMARKS.md all
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/wxcourier/wxcourier/bench/report"
	"github.com/wxcourier/wxcourier/bench/standin"
)

// The modes in which the program runs itself as a child process: the first argument.
const (
	modeStandIn = "stand-in"
	modeSpin    = "spin"
	modePlain   = "plain-worker"
)

// bench is one run of the program.
type bench struct {
	quick  bool
	json   bool
	keep   bool
	runs   int    // 0: the case's default
	into   string // the file to record tables in; "": none
	module string
	binary string // wxcourier, built from module
	self   string // this program
	dir    string
	out    io.Writer
	status io.Writer
}

// benchCase is a case on the command line. Its run fills a table.
type benchCase struct {
	name string
	help string
	run  func(b *bench, ctx context.Context, t *report.Table) error
}

// cases returns all cases in the order of "all".
func cases() []benchCase {
	return []benchCase{
		{"seconds", "100 a second: 1, 2, 4 and 8 workers, also with one core busy", (*bench).seconds},
		{"churn", "100 a second while workers are stopped, killed and replaced", (*bench).churn},
		{"jitter", "100 a second over a network with 50 ms of jitter, at the default margin", (*bench).jitter},
		{"cold", "100 a second where a new connection takes 40 or 100 ms to open", (*bench).cold},
		{"receiver", "a lane in which some tasks go to the same few people", (*bench).receiver},
		{"minutes", "4,000 a minute over three minutes", (*bench).minutes},
		{"midnight", "both limits over midnight, in simulated time", (*bench).midnight},
		{"permits", "the cost of a permit, and the share of a limit that the limiters alone use", (*bench).permits},
		{"demand", "the cost of a permit when the limit is far above the demand, and the longest script", (*bench).demand},
		{"unequal", "500 a second through a fast worker and slow ones", (*bench).unequal},
		{"pipeline", "1,000 a second through 8 workers: the cost of a send", (*bench).pipeline},
		{"tenants", "the latency of one app while another has 100,000 tasks waiting, or is held", (*bench).tenants},
		{"crowd", "the pace of a lane while 504 others are held with tasks waiting", (*bench).crowd},
		{"apps", "the cost of a replica with 100, 1,000 or 5,000 apps, idle and with ten tasks each", (*bench).apps},
		{"idle", "the cost of an idle replica", (*bench).idle},
		{"light", "the time from start to first call, the size of the binary, and memory at 2,000 a second", (*bench).light},
		{"latency", "the latency from enqueue to the call on an idle system", (*bench).latency},
		{"drain", "a backlog without a limit, compared with a plain asynq worker that makes the same calls", (*bench).drain},
		{"ledger", "the cost of fence and ledger", (*bench).ledger},
		{"gateway", "tasks over HTTP, one a request and as a batch, compared with package tasks", (*bench).gateway},
		{"beside", "wxcourier compared with asynq's wiki pattern with redis_rate", (*bench).beside},
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := start(ctx, os.Args[1:])
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func start(ctx context.Context, args []string) error {
	if len(args) > 0 {
		switch args[0] {
		case modeStandIn:
			return standin.Serve(ctx, args[1:], os.Stdout)
		case modeSpin:
			spin(ctx)
			return nil
		case modeReplica:
			return runReplica(ctx, args[1:], os.Stdout)
		case modePlain:
			return runPlainWorker(ctx, args[1:], os.Stdout)
		}
	}
	b := &bench{out: os.Stdout, status: os.Stderr}
	wanted, err := b.parse(args)
	if err != nil {
		return err
	}
	if err := b.prepare(ctx); err != nil {
		return err
	}
	defer func() { _ = b.cleanup() }()
	return b.measure(ctx, wanted)
}

// parse parses the flags and returns the wanted cases.
func (b *bench) parse(args []string) ([]benchCase, error) {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.BoolVar(&b.quick, "quick", false, "small sizes: to test a case, not to measure")
	flags.BoolVar(&b.json, "json", false, "print one JSON object per row in place of Markdown")
	flags.BoolVar(&b.keep, "keep", false, "keep the folder with configurations and logs")
	flags.IntVar(&b.runs, "runs", 0, "`times` to measure each row of seconds, churn and jitter (default 1), beside, light and gateway (3), crowd, drain and ledger (5)")
	flags.StringVar(&b.into, "into", "", "write each table to this `file`, in place of the one with the same title")
	flags.StringVar(&b.module, "module", "..", "the `folder` of wxcourier's main module")
	flags.Usage = func() {
		_, _ = fmt.Fprintln(flags.Output(), "bench [flags] case…\n\nThe cases, or all:")
		for _, c := range cases() {
			_, _ = fmt.Fprintf(flags.Output(), "  %-9s %s\n", c.name, c.help)
		}
		_, _ = fmt.Fprintln(flags.Output(), "\nThe flags:")
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	var wanted []benchCase
	for _, name := range flags.Args() {
		found := false
		for _, c := range cases() {
			if name == c.name || name == "all" {
				wanted, found = append(wanted, c), true
			}
		}
		if !found {
			return nil, fmt.Errorf("unknown case %q; see bench -help (flags come before the cases)", name)
		}
	}
	if len(wanted) == 0 {
		flags.Usage()
		return nil, flag.ErrHelp
	}
	if b.quick && b.into != "" {
		return nil, errors.New("-into records no figures of -quick; remove one of the two")
	}
	return wanted, nil
}

// prepare builds wxcourier once for all cases.
func (b *bench) prepare(ctx context.Context) (err error) {
	if _, err := exec.LookPath("redis-server"); err != nil {
		return fmt.Errorf("redis-server is required: %w", err)
	}
	if b.self, err = os.Executable(); err != nil {
		return err
	}
	if b.dir, err = os.MkdirTemp("", "wxcourier-bench"); err != nil {
		return err
	}
	b.binary = filepath.Join(b.dir, "wxcourier")
	b.logf("building wxcourier")
	// With the flags of the Makefile and the Dockerfile.
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", b.binary, "./cmd/wxcourier") //nolint:gosec // the folder given by -module
	build.Dir = b.module
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		_ = b.cleanup()
		return fmt.Errorf("build wxcourier in %s: %w\n%s", b.module, err, out)
	}
	return nil
}

func (b *bench) cleanup() error {
	if b.keep {
		b.logf("logs are in %s", b.dir)
		return os.Remove(b.binary)
	}
	return os.RemoveAll(b.dir)
}

// measure runs the cases. When one fails, the others still run.
func (b *bench) measure(ctx context.Context, wanted []benchCase) error {
	if !b.json {
		if _, err := fmt.Fprintf(b.out, "Measured %s\n\n", b.conditions()); err != nil {
			return err
		}
	}
	var errs []error
	missed := 0
	for _, c := range wanted {
		start, conditions := time.Now(), b.conditions()
		b.logf("%s: %s", c.name, c.help)
		t := &report.Table{Name: c.name}
		err := c.run(b, ctx, t)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", c.name, err))
			b.logf("%s FAILED: %v", c.name, err)
		}
		if len(t.Rows) > 0 { // also the rows of a case that failed later
			errs = append(errs, b.show(t))
		}
		if b.into != "" && err == nil {
			errs = append(errs, report.Record(b.into, t, conditions))
		}
		missed += t.Missed()
		b.logf("%s took %v", c.name, time.Since(start).Round(time.Second))
		if ctx.Err() != nil {
			break
		}
	}
	if missed > 0 {
		b.logf("%d figures miss their targets (bold)", missed)
	}
	return errors.Join(errs...)
}

// conditions describes the machine and the time of a run in one line.
func (b *bench) conditions() string {
	load := "?"
	if text, err := os.ReadFile("/proc/loadavg"); err == nil {
		load, _, _ = strings.Cut(string(text), " ")
	}
	server := "?"
	if out, err := exec.Command("redis-server", "--version").Output(); err == nil { //nolint:noctx // prints the version and exits
		for _, field := range strings.Fields(string(out)) {
			if v, ok := strings.CutPrefix(field, "v="); ok {
				server = v
			}
		}
	}
	sizes := ""
	if b.quick {
		sizes = ", quick sizes"
	}
	return fmt.Sprintf("%s, %d cores, load %s at the start, %s, Redis %s, %s/%s%s.",
		time.Now().Format(time.DateOnly), runtime.NumCPU(), load, runtime.Version(), server, runtime.GOOS, runtime.GOARCH, sizes)
}

// show prints the table of a case.
func (b *bench) show(t *report.Table) error {
	if b.json {
		return t.JSON(b.out)
	}
	return t.Markdown(b.out)
}

// logf prints a progress message to standard error.
func (b *bench) logf(format string, args ...any) {
	_, _ = fmt.Fprintf(b.status, time.Now().Format(time.TimeOnly)+" "+strings.TrimSpace(format)+"\n", args...)
}

// sizeFor returns full, or quick with -quick.
func sizeFor[T any](b *bench, full, quick T) T {
	if b.quick {
		return quick
	}
	return full
}

// runsOf returns how often to measure a row; usual is the case's default.
func (b *bench) runsOf(usual int) int {
	switch {
	case b.runs > 0:
		return b.runs
	case b.quick:
		return 1
	default:
		return usual
	}
}

// spin keeps one core busy until ctx ends.
func spin(ctx context.Context) {
	n := uint64(1)
	for ctx.Err() == nil {
		for range 1_000_000 {
			n = n*6364136223846793005 + 1442695040888963407
		}
	}
	_, _ = fmt.Fprintln(io.Discard, n)
}
