package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/bench/report"
	"github.com/wxcourier/wxcourier/internal/summary"
	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/wechat"
	"github.com/wxcourier/wxcourier/worker"
)

// modeReplica runs the program as a replica with or without its ledger.
const modeReplica = "replica"

// wantLedger is the maximum ratio of CPU with and without fence and ledger.
const wantLedger = 1.25

func (b *bench) ledger(ctx context.Context, t *report.Table) error {
	n := sizeFor(b, 30_000, 5000)
	runs := b.runsOf(5)
	t.Title = "What fence and ledger cost"
	t.About = fmt.Sprintf("The same replica twice, `send:subscribe` without a limit, instant answers, 50 slots, a backlog of %s: once as it is, and once with a Redis client that answers the ledger's two scripts (open with its fence, and settle) itself. Medians of %d runs, one of each in turn. Wanted: at most 25 %% more CPU of the worker.", summary.Number(n), runs)
	t.Head = []string{"case", "tasks a second", "worker's CPU a 1,000", "Redis CPU a 1,000", "both"}
	var costs [2][]cost
	var rates [2][]float64
	for run := range runs {
		for i, without := range []bool{true, false} {
			rate, spent, err := b.ledgerOnce(ctx, n, without)
			if err != nil {
				return err
			}
			b.logf("  run %d, without %v: %.0f a second, CPU %.3f s a 1,000", run+1, without, rate, spent.workerCPU)
			rates[i], costs[i] = append(rates[i], rate), append(costs[i], spent)
		}
	}
	bare, full := medianCost(costs[0]), medianCost(costs[1])
	add := func(label string, rate float64, c cost) {
		t.Add(label, report.Number(rate, 0, ""), report.Number(c.workerCPU, 3, " s"), report.Number(c.redisCPU, 3, " s"), report.Number(c.workerCPU+c.redisCPU, 3, " s"))
	}
	add("without", report.Median(rates[0]), bare)
	add("with fence and ledger", report.Median(rates[1]), full)
	t.Add("ratio", report.Number(report.Median(rates[1])/report.Median(rates[0]), 2, ""), report.Number(full.workerCPU/bare.workerCPU, 2, "").AtMost(wantLedger),
		report.Number(full.redisCPU/bare.redisCPU, 2, ""), report.Number((full.workerCPU+full.redisCPU)/(bare.workerCPU+bare.redisCPU), 2, ""))
	return nil
}

func (b *bench) ledgerOnce(ctx context.Context, n int, without bool) (float64, cost, error) {
	l, err := b.newLab(ctx, labConfig{apps: 1})
	if err != nil {
		return 0, cost{}, err
	}
	defer l.close()
	if err := l.backlog(ctx, order{app: appID(0), typ: tasks.TypeSubscribe}, n); err != nil {
		return 0, cost{}, err
	}
	before, err := l.usage(ctx)
	if err != nil {
		return 0, cost{}, err
	}
	if err := l.startWorker(b.self, modeReplica, "-redis", l.redis, "-base", l.wechat, fmt.Sprintf("-without=%v", without)); err != nil {
		return 0, cost{}, err
	}
	return l.waitUntilDrained(ctx, before, n)
}

// runReplica runs a replica until ctx ends.
func runReplica(ctx context.Context, args []string, _ io.Writer) error {
	flags := flag.NewFlagSet(modeReplica, flag.ContinueOnError)
	addr := flags.String("redis", "", "host:port")
	base := flags.String("base", "", "the stand-in's URL")
	without := flags.Bool("without", false, "answer the ledger's scripts in the client, without Redis")
	if err := flags.Parse(args); err != nil {
		return err
	}
	rdb := redis.NewClient(&redis.Options{Addr: *addr})
	defer func() { _ = rdb.Close() }()
	if *without {
		rdb.AddHook(noLedger{}) // before the replica's own hook, so that it wraps that
	}
	shared := redis.NewClient(&redis.Options{Addr: *addr})
	defer func() { _ = shared.Close() }()
	cfg := wechat.DefaultConfig()
	cfg.BaseURL = *base
	tokens := wechat.NewTokens(cfg, shared, func(app string) (wechat.Credential, bool) {
		return wechat.Credential{App: app, Secret: "bench"}, true
	})
	defer tokens.Close()
	limits := map[string]ratelimit.Limit{tasks.TypeSubscribe: {Concurrency: 50}}
	limiter := ratelimit.NewLimiter(shared, ratelimit.DefaultConfig(), func(string) map[string]ratelimit.Limit { return limits })
	defer func() { _ = limiter.Close(context.WithoutCancel(ctx)) }()
	replica, err := worker.New(worker.DefaultConfig(), worker.Deps{
		Redis: rdb, WeChat: wechat.NewClient(cfg, tokens), Limiter: limiter, Apps: []worker.App{{ID: appID(0)}},
		Results: worker.DefaultResultsConfig(), Attempt: cfg.AttemptTimeout, Logger: slog.New(slog.DiscardHandler),
	}, worker.Hooks{})
	if err != nil {
		return err
	}
	return replica.Run(ctx)
}

// noLedger is a go-redis hook that answers the ledger's scripts on a task's record without Redis:
// open with "may be sent" and settle with "written". It distinguishes them by their number of keys.
type noLedger struct{}

func (noLedger) DialHook(next redis.DialHook) redis.DialHook { return next }

func (noLedger) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (noLedger) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		script, ok := cmd.(*redis.Cmd)
		args := cmd.Args()
		if !ok || cmd.Name() != "evalsha" || len(args) < 4 {
			return next(ctx, cmd)
		}
		if record, _ := args[3].(string); !strings.HasPrefix(record, "wxcourier:{") || !strings.Contains(record, "}:task:") {
			return next(ctx, cmd)
		}
		if keys, _ := args[2].(int); keys <= 2 {
			script.SetVal([]any{"go", int64(0), int64(1), int64(0), time.Now().UnixMilli(), int64(0), ""})
		} else {
			script.SetVal([]any{"written", "accepted", ""})
		}
		return nil
	}
}
