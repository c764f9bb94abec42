package loadtest

import (
	"context"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/pushes"
	"github.com/wxcourier/wxcourier/internal/redisinfo"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/sandbox"
	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/wechat"
	"github.com/wxcourier/wxcourier/wechat/callback"
	"github.com/wxcourier/wxcourier/worker"
)

const (
	// receiptTasks is the number of messages of BenchmarkReceipts.
	receiptTasks = 20_000
	// receiptChunk is how many of them wait for their receipts at a time, which mostly come within seconds.
	receiptChunk = 2000
)

// BenchmarkReceipts measures what a delivered message costs Redis, in commands, as INFO commandstats counts
// them, and in memory, from its enqueuing to its outcome, without receipts and with them. Receipts are
// handled 64 at a time; what the receiver of the pushes does before is not included. Half of the messages
// are in a batch. With WXCOURIER_COMMANDS=1 it prints the commands.
//
//	go test -run - -bench Receipts -benchtime 1x ./internal/loadtest
func BenchmarkReceipts(b *testing.B) {
	for b.Loop() {
		off, on := deliverAll(b, false), deliverAll(b, true)
		b.ReportMetric(off.commands, "off-commands")
		b.ReportMetric(on.commands, "on-commands")
		b.ReportMetric(on.commands/off.commands, "commands-ratio")
		b.ReportMetric(off.bytes, "off-bytes")
		b.ReportMetric(on.bytes, "on-bytes")
		b.ReportMetric(on.bytes/off.bytes, "bytes-ratio")
		if os.Getenv("WXCOURIER_COMMANDS") != "" {
			b.Log("off", off.calls, "\non", on.calls)
		}
	}
}

// deliveryCost is the cost of a message.
type deliveryCost struct {
	commands, bytes float64
	calls           map[string]float64 // by command
}

// deliverAll delivers messages and their receipts.
func deliverAll(b *testing.B, receipts bool) deliveryCost {
	b.Helper()
	rdb := redis.NewClient(&redis.Options{Addr: redistest.Start(b).Addr(), PoolSize: 20, MinIdleConns: 20})
	b.Cleanup(func() { _ = rdb.Close() })
	wx := sandbox.New(sandbox.Options{Apps: map[string]string{memoryApp: "secret"}, NoLimits: true})
	url, stop := wx.Start()
	b.Cleanup(stop)
	ended := make(chan tasks.Result, receiptChunk)
	startReplica(b, rdb, url, receipts, func(r tasks.Result) { ended <- r })
	client := tasks.NewClient(rdb)
	deliver := func(from int) {
		all := make([]tasks.Envelope, receiptChunk)
		for i := range all {
			if all[i], _ = memoryBody(b, from+i, 350); i%2 == 0 {
				all[i].Batch = "spring"
			}
		}
		for _, r := range client.SubmitMany(b.Context(), all) {
			if r.Err != nil {
				b.Fatal(r.Err)
			}
		}
		results := make([]tasks.Result, receiptChunk)
		for i := range results {
			results[i] = <-ended
		}
		if receipts {
			handleReceipts(b, rdb, results)
		}
		redistest.Until(b, time.Minute, "asynq has no task", func() bool {
			queues, err := asynq.NewInspectorFromRedisClient(rdb).GetQueueInfo(memoryQueue)
			return err == nil && queues.Size == 0
		})
	}
	deliver(0) // scripts, connections, the batch
	memory, before := usedMemory(b, rdb), callsOf(b, rdb)
	for done := 0; done < receiptTasks; done += receiptChunk {
		deliver(receiptChunk + done)
	}
	after := callsOf(b, rdb)
	cost := deliveryCost{bytes: float64(usedMemory(b, rdb)-memory) / receiptTasks, calls: make(map[string]float64)}
	for command, count := range after {
		if per := float64(count-before[command]) / receiptTasks; per > 0 {
			cost.calls[command] = per
			cost.commands += per
		}
	}
	return cost
}

// startReplica starts a replica, which is stopped at the end.
func startReplica(b *testing.B, rdb *redis.Client, url string, receipts bool, ended func(tasks.Result)) {
	b.Helper()
	own := redis.NewClient(&redis.Options{Addr: rdb.Options().Addr, PoolSize: 100, MinIdleConns: 100})
	config := wechat.DefaultConfig()
	config.BaseURL = url
	tokens := wechat.NewTokens(config, own, func(app string) (wechat.Credential, bool) {
		return wechat.Credential{App: app, Secret: "secret"}, true
	})
	limiter := ratelimit.NewLimiter(own, ratelimit.DefaultConfig(), func(string) map[string]ratelimit.Limit { return nil })
	replica, err := worker.New(worker.DefaultConfig(), worker.Deps{
		Redis: own, WeChat: wechat.NewClient(config, tokens), Limiter: limiter, Apps: []worker.App{{ID: memoryApp, Receipts: receipts}},
		Results: worker.DefaultResultsConfig(), Attempt: config.AttemptTimeout, Logger: slog.New(slog.DiscardHandler),
	}, worker.Hooks{OnResult: ended})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(b.Context()))
	done := make(chan error, 1)
	go func() { done <- replica.Run(ctx) }()
	b.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			b.Error(err)
		}
		_ = limiter.Close(context.WithoutCancel(b.Context()))
		tokens.Close()
		_ = own.Close()
	})
}

// handleReceipts handles the receipts of messages, as the gateway does.
func handleReceipts(b *testing.B, rdb *redis.Client, results []tasks.Result) {
	b.Helper()
	joined := 0
	handler := pushes.NewReceipts(pushes.ReceiptsDeps{
		Redis: rdb, Policy: worker.RecordPolicy(worker.DefaultResultsConfig(), wechat.DefaultConfig().AttemptTimeout),
		Log:       slog.New(slog.DiscardHandler),
		Apps:      func() []string { return []string{memoryApp} },
		OnReceipt: func(tasks.Result, time.Time) { joined++ },
	})
	for some := range slices.Chunk(results, 64) {
		pushed := make([]callback.Push, len(some))
		for i, r := range some {
			pushed[i] = callback.Push{
				From: "oBench", Created: time.Now(), Type: "event", Event: callback.EventSubscribeSent,
				Receipts: []callback.Receipt{{MsgID: r.MsgID, TemplateID: "shipping", Delivery: callback.Delivered, Status: "success"}},
			}
		}
		if err := handler.Handle(b.Context(), memoryApp, pushed); err != nil {
			b.Fatal(err)
		}
	}
	if joined != len(results) {
		b.Fatalf("%d of %d receipts were joined", joined, len(results))
	}
}

// callsOf returns the number of calls of each command.
func callsOf(b *testing.B, rdb *redis.Client) map[string]int64 {
	b.Helper()
	info, err := redisinfo.Read(context.WithoutCancel(b.Context()), rdb, "commandstats")
	if err != nil {
		b.Fatal(err)
	}
	calls := make(map[string]int64)
	for command, n := range info.Calls() {
		name, _, _ := strings.Cut(command, "|")
		calls[name] += n
	}
	return calls
}
