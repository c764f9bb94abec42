package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"math"
	"os/exec"
	"strconv"
	"strings"

	"github.com/wxcourier/wxcourier/bench/report"
)

// The limiters without the delivery pipeline are measured by benchmarks in package ratelimit, which
// can control the clock.

func (b *bench) permits(ctx context.Context, t *report.Table) error {
	t.Title = "Permits: their cost, and the limiters alone"
	t.About = "`BenchmarkPermits` of package ratelimit: limiters of one process, each with its own client, on a real Redis, ten seconds each, `pace.margin: 0.02`. Each EVALSHA counts as one command. Wanted at 1,000 a second: at most 0.05 commands a permit, with up to 8 limiters. The most in a second is counted where a permit is used, not at a server."
	t.Head = []string{"limit × limiters", "share of the limit", "commands a permit", "most in a second", "permits too late"}
	lines, err := b.goBench(ctx, "Permits")
	for _, l := range lines {
		if _, ok := l.figures["%used"]; !ok {
			continue // without a limit per second there is no share
		}
		cost := report.Number(l.figures["commands/permit"], 3, "")
		limit, _ := strconv.ParseFloat(strings.SplitN(l.name, "/", 2)[0], 64)
		if limit >= 1000 {
			cost = cost.AtMost(0.05)
		}
		t.Add(l.name, report.Number(l.figures["%used"], 1, " %").AtLeast(100*wantShare), cost,
			report.Number(l.figures["most/s"], 0, "").AtMost(limit), report.Number(l.figures["late"], 0, ""))
	}
	return err
}

func (b *bench) midnight(ctx context.Context, t *report.Table) error {
	t.Title = "Over midnight"
	t.About = "`BenchmarkMidnight` of package ratelimit: 8 limiters request as many permits as possible from the scripts on a real Redis, in simulated time, from 23:57 to 00:03 in China, `pace.margin: 0.02`. Calls are counted at the instants of their permits. Wanted: at least 97.5 % of the limit, none over it, and on neither day more than the day's limit; after a spent day the next one starts two seconds after midnight, since WeChat's clock may be behind."
	t.Head = []string{"case", "share of the limit", "most in a window", "calls over", "first day", "second day", "first call after midnight"}
	lines, err := b.goBench(ctx, "Midnight")
	for _, l := range lines {
		share := report.Number(math.NaN(), 1, " %") // bounded by the daily limit, not by the pace
		if used, ok := l.figures["%used"]; ok {
			share = report.Number(used, 1, " %").AtLeast(100 * wantShare)
		}
		t.Add(l.name, share, report.Number(l.figures["most/window"], 0, ""), report.Number(l.figures["over"], 0, "").AtMost(0),
			report.Number(l.figures["day1"], 0, ""), report.Number(l.figures["day2"], 0, ""), report.Number(l.figures["s-after-midnight"], 2, " s"))
	}
	return err
}

// benchLine is a line of output of a Go benchmark.
type benchLine struct {
	name    string // after the first slash
	figures map[string]float64
}

// goBench runs a benchmark of package ratelimit once.
func (b *bench) goBench(ctx context.Context, name string) ([]benchLine, error) {
	run := exec.CommandContext(ctx, "go", "test", "-run", "-", "-bench", "^Benchmark"+name+"$", "-benchtime", "1x", "./ratelimit") //nolint:gosec // a constant name
	run.Dir = b.module
	out, err := run.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("go test -bench %s: %w\n%s", name, err, out)
	}
	lines := parseBench(out)
	if len(lines) == 0 {
		return nil, fmt.Errorf("go test -bench %s measured nothing:\n%s", name, out)
	}
	return lines, nil
}

// parseBench parses Go's benchmark format: a name, the number of iterations, and values with their
// units.
func parseBench(out []byte) (lines []benchLine) {
	scanner := bufio.NewScanner(bytes.NewReader(out))
	for scanner.Scan() {
		fields := strings.Fields(scanner.Text())
		if len(fields) < 4 || !strings.HasPrefix(fields[0], "Benchmark") {
			continue
		}
		_, name, _ := strings.Cut(fields[0], "/")
		if dash := strings.LastIndexByte(name, '-'); dash > 0 {
			name = name[:dash] // remove GOMAXPROCS
		}
		l := benchLine{name: strings.ReplaceAll(name, "_", " "), figures: make(map[string]float64)}
		for i := 2; i+1 < len(fields); i += 2 {
			if v, err := strconv.ParseFloat(fields[i], 64); err == nil {
				l.figures[fields[i+1]] = v
			}
		}
		lines = append(lines, l)
	}
	return lines
}
