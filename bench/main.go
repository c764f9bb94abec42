// Command bench measures what wxcourier promises about its pace and its cost: real worker
// processes, a real Redis, and a stand-in for WeChat that notes when each call arrives.
// README.md says what each case measures, and how.
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
	"strings"
	"syscall"
	"time"
)

// The program's parts in other processes.
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
	runs   int    // 0: as often as the case wants
	into   string // the file that tables are recorded in; "": none
	module string
	binary string // wxcourier, built from module
	self   string // this program
	dir    string
	out    io.Writer
	status io.Writer
}

// benchCase is one case: it fills a table.
type benchCase struct {
	name string
	help string
	run  func(b *bench, ctx context.Context, t *table) error
}

// cases are all of them, in the order of "all".
func cases() []benchCase {
	return []benchCase{
		{"seconds", "100 a second: 1, 2, 4 and 8 workers, also beside a busy core", (*bench).seconds},
		{"churn", "100 a second while workers come, go and are killed", (*bench).churn},
		{"jitter", "100 a second over a network with 50 ms of jitter, at the default margin", (*bench).jitter},
		{"cold", "100 a second where a new connection takes 40 or 100 ms to open", (*bench).cold},
		{"receiver", "a lane some of whose tasks go to the same few people", (*bench).receiver},
		{"minutes", "4,000 a minute over three minutes", (*bench).minutes},
		{"midnight", "both limits over midnight, in simulated time", (*bench).midnight},
		{"permits", "what a permit costs, and how much of a limit the limiters alone use", (*bench).permits},
		{"demand", "what a permit costs where the limit is far above the demand, and the longest script", (*bench).demand},
		{"unequal", "500 a second through a fast worker beside slow ones", (*bench).unequal},
		{"pipeline", "1,000 a second through 8 workers: what a send costs", (*bench).pipeline},
		{"tenants", "one app's tasks beside another app that is held, or has 100,000 tasks waiting", (*bench).tenants},
		{"crowd", "a lane's pace while 504 others are held with tasks waiting", (*bench).crowd},
		{"apps", "what a replica costs that has 100, 1,000 or 5,000 apps, idle and with ten tasks each", (*bench).apps},
		{"idle", "what a replica costs that has nothing to do", (*bench).idle},
		{"light", "from start to first call, the binary's size, and memory at 2,000 a second", (*bench).light},
		{"latency", "from enqueue to the call, on an idle system", (*bench).latency},
		{"drain", "a backlog without a limit, beside a plain asynq worker that makes the same calls", (*bench).drain},
		{"ledger", "what fence and ledger cost", (*bench).ledger},
		{"beside", "wxcourier beside asynq's wiki pattern with redis_rate", (*bench).beside},
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
			return serveStandIn(ctx, args[1:], os.Stdout)
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

// parse reads the command line.
func (b *bench) parse(args []string) ([]benchCase, error) {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.BoolVar(&b.quick, "quick", false, "small sizes: to see that a case works, not what it measures")
	flags.BoolVar(&b.json, "json", false, "one JSON object a row in place of Markdown")
	flags.BoolVar(&b.keep, "keep", false, "leave the folder with configurations and logs")
	flags.IntVar(&b.runs, "runs", 0, "`times` that each row is measured: of seconds, churn and jitter (default 1), beside and light (3), crowd, drain and ledger (5)")
	flags.StringVar(&b.into, "into", "", "put each table into this `file`, in the place of the one with the same title")
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
			return nil, fmt.Errorf("there is no case %q; see bench -help (flags stand before the cases)", name)
		}
	}
	if len(wanted) == 0 {
		flags.Usage()
		return nil, flag.ErrHelp
	}
	if b.quick && b.into != "" {
		return nil, errors.New("-into: the figures of -quick are not worth recording; leave one of the two out")
	}
	return wanted, nil
}

// prepare builds wxcourier, once for all cases.
func (b *bench) prepare(ctx context.Context) (err error) {
	if _, err := exec.LookPath("redis-server"); err != nil {
		return fmt.Errorf("redis-server is needed: %w", err)
	}
	if b.self, err = os.Executable(); err != nil {
		return err
	}
	if b.dir, err = os.MkdirTemp("", "wxcourier-bench"); err != nil {
		return err
	}
	b.binary = filepath.Join(b.dir, "wxcourier")
	b.logf("building wxcourier")
	// As the Makefile and the Dockerfile build it.
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", b.binary, "./cmd/wxcourier") //nolint:gosec // our own folder
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

// measure runs the cases. One that breaks down does not keep the others from running.
func (b *bench) measure(ctx context.Context, wanted []benchCase) error {
	if !b.json {
		if _, err := fmt.Fprintf(b.out, "Measured %s\n\n", b.conditions()); err != nil {
			return err
		}
	}
	var errs []error
	missed := 0
	for _, c := range wanted {
		began, conditions := time.Now(), b.conditions()
		b.logf("%s: %s", c.name, c.help)
		t := &table{name: c.name}
		err := c.run(b, ctx, t)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", c.name, err))
			b.logf("%s FAILED: %v", c.name, err)
		}
		if len(t.rows) > 0 { // also of a case that broke down: what it had measured
			errs = append(errs, b.show(t))
		}
		if b.into != "" && err == nil {
			errs = append(errs, record(b.into, t, conditions))
		}
		missed += t.missed()
		b.logf("%s took %v", c.name, time.Since(began).Round(time.Second))
		if ctx.Err() != nil {
			break
		}
	}
	if missed > 0 {
		b.logf("%d figures are not what is wanted (bold)", missed)
	}
	return errors.Join(errs...)
}

// logf tells what is going on.
func (b *bench) logf(format string, args ...any) {
	_, _ = fmt.Fprintf(b.status, time.Now().Format(time.TimeOnly)+" "+strings.TrimSpace(format)+"\n", args...)
}

// sizeFor picks a size.
func sizeFor[T any](b *bench, full, quick T) T {
	if b.quick {
		return quick
	}
	return full
}

// runsOf is how often a row is measured.
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
