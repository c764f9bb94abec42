package main

import (
	"context"
	"errors"

	"github.com/wxcourier/wxcourier/bench/report"
	"github.com/wxcourier/wxcourier/internal/redisinfo"
)

// usage holds figures of Redis since its start.
type usage struct {
	commands int64            // all, including those inside scripts
	calls    map[string]int64 // by command
	cpu      float64          // seconds
}

// usage reads INFO. Each reading is one command, which the next reading counts.
func (l *lab) usage(ctx context.Context) (usage, error) {
	info, err := redisinfo.Read(ctx, l.rdb, "everything")
	if err != nil {
		return usage{}, err
	}
	commands, ok := info.Int(redisinfo.Commands)
	cpu, okCPU := info.CPU()
	if !ok || !okCPU {
		return usage{}, errors.New("INFO has no count of commands or no CPU time")
	}
	return usage{commands: commands, calls: info.Calls(), cpu: cpu.Seconds()}, nil
}

// since returns the difference of two readings, without the reading itself.
func (u usage) since(before usage) usage {
	d := usage{commands: u.commands - before.commands - 1, cpu: u.cpu - before.cpu, calls: make(map[string]int64)}
	for name, n := range u.calls {
		d.calls[name] = n - before.calls[name]
	}
	return d
}

// cost is the resource usage of Redis and the workers per call.
type cost struct {
	commands  float64 // of Redis per call, including those inside scripts
	evalsha   float64 // of them EVALSHA, which only clients send
	redisCPU  float64 // seconds per 1,000 calls
	workerCPU float64 // the same, of all workers
}

// costSince returns the cost of so many calls since an earlier reading, which must be from before the
// workers' start.
func (l *lab) costSince(ctx context.Context, before usage, calls int) (cost, error) {
	after, err := l.usage(ctx)
	if err != nil {
		return cost{}, err
	}
	cpu, err := l.workerCPU()
	if err != nil {
		return cost{}, err
	}
	used, n := after.since(before), float64(calls)
	return cost{
		commands: float64(used.commands) / n, evalsha: float64(used.calls["evalsha"]) / n,
		redisCPU: 1000 * used.cpu / n, workerCPU: 1000 * cpu.Seconds() / n,
	}, nil
}

// costHead returns the column headings of cells.
func costHead() []string {
	return []string{"Redis commands a send", "of them EVALSHA", "Redis CPU a 1,000", "workers' CPU a 1,000"}
}

func (c cost) cells() []any {
	return []any{report.Number(c.commands, 1, ""), report.Number(c.evalsha, 2, ""), report.Number(c.redisCPU, 2, " s"), report.Number(c.workerCPU, 2, " s")}
}

// medianCost returns the median of each field.
func medianCost(all []cost) cost {
	mid := func(of func(cost) float64) float64 {
		values := make([]float64, len(all))
		for i, c := range all {
			values[i] = of(c)
		}
		return report.Median(values)
	}
	return cost{
		commands: mid(func(c cost) float64 { return c.commands }), evalsha: mid(func(c cost) float64 { return c.evalsha }),
		redisCPU: mid(func(c cost) float64 { return c.redisCPU }), workerCPU: mid(func(c cost) float64 { return c.workerCPU }),
	}
}
