package loadtest

import (
	"context"
	"encoding/json"
	"math"
	"runtime"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/buildinfo"
	"github.com/wxcourier/wxcourier/internal/redisinfo"
	"github.com/wxcourier/wxcourier/internal/subprocess"
	"github.com/wxcourier/wxcourier/tasks"
)

// Figure is a measured number, or unknown, which is null in JSON.
type Figure float64

var unknown = Figure(math.NaN())

// MarshalJSON writes four significant digits; the measurements are not more precise.
func (f Figure) MarshalJSON() ([]byte, error) {
	if !f.known() {
		return []byte("null"), nil
	}
	v, _ := strconv.ParseFloat(strconv.FormatFloat(float64(f), 'g', 4, 64), 64)
	return json.Marshal(v)
}

func (f Figure) known() bool { return !math.IsNaN(float64(f)) && !math.IsInf(float64(f), 0) }

// Report holds the conditions and the results of a run.
type Report struct {
	Version     string  `json:"version"`
	System      string  `json:"system"`
	CPUs        int     `json:"cpus"`
	Redis       Redis   `json:"redis"`
	Type        string  `json:"type"`
	Tasks       int     `json:"tasks"`
	Replicas    int     `json:"replicas"`
	Concurrency int     `json:"concurrency"`
	Latency     Figure  `json:"latency_seconds"`
	Limit       *int    `json:"limit_per_second"`
	Enqueue     Phase   `json:"enqueue"`
	Drain       Phase   `json:"drain"`
	EndToEnd    Latency `json:"end_to_end"`
	// SandboxCPU is the CPU time of the stand-in, which a real WeChat does not use.
	SandboxCPU Figure `json:"sandbox_cpu_seconds_per_100k"`
}

// Redis describes the Redis of the run.
type Redis struct {
	Kind    Kind   `json:"kind"`
	Address string `json:"address"`
	Version string `json:"version,omitempty"`
}

// Phase holds the results of one phase. A figure that the phase does not measure, or the system does
// not report, is null.
type Phase struct {
	Tasks   int    `json:"tasks"`
	Seconds Figure `json:"seconds"`
	Rate    Figure `json:"tasks_per_second"`

	ProducerCPU Figure `json:"producer_cpu_seconds_per_100k"`
	WorkerCPU   Figure `json:"worker_cpu_seconds_per_100k"` // of all replicas, from start to exit
	WorkerPeak  Figure `json:"worker_peak_bytes"`           // peak resident memory of the largest replica

	RedisCommands Figure `json:"redis_commands_per_task"` // including those inside scripts
	RedisCPU      Figure `json:"redis_cpu_seconds_per_100k"`
	RedisMemory   Figure `json:"redis_memory_bytes_per_task"` // growth over the phase

	LimitUsed Figure                `json:"limit_used"` // share
	Outcomes  map[tasks.Outcome]int `json:"outcomes,omitempty"`
}

// Latency holds the results of a phase at a steady rate.
type Latency struct {
	Phase
	Offered Figure `json:"offered_per_second"`
	P50     Figure `json:"p50_seconds"` // from enqueuing to the outcome
	P99     Figure `json:"p99_seconds"`
	Slowest Figure `json:"slowest_seconds"`
}

func newReport(o Options, redisVersion string) Report {
	r := Report{
		Version: buildinfo.Version(), System: runtime.GOOS + "/" + runtime.GOARCH, CPUs: runtime.NumCPU(),
		Redis: Redis{Kind: o.Target.Kind, Address: o.Target.Redis.Address(), Version: redisVersion},
		Type:  o.Type, Tasks: o.Tasks, Replicas: o.Replicas, Concurrency: o.Concurrency,
		Latency: Figure(o.Latency.Seconds()), SandboxCPU: unknown,
		Enqueue: newPhase(), Drain: newPhase(),
		EndToEnd: Latency{Phase: newPhase(), Offered: unknown, P50: unknown, P99: unknown, Slowest: unknown},
	}
	if o.Limit > 0 {
		r.Limit = &o.Limit
	}
	return r
}

func newPhase() Phase {
	return Phase{
		Seconds: unknown, Rate: unknown, ProducerCPU: unknown, WorkerCPU: unknown, WorkerPeak: unknown,
		RedisCommands: unknown, RedisCPU: unknown, RedisMemory: unknown, LimitUsed: unknown,
	}
}

func (p *Phase) span(n int, d time.Duration) {
	p.Tasks, p.Seconds, p.Rate = n, Figure(d.Seconds()), unknown
	if d > 0 {
		p.Rate = Figure(float64(n) / d.Seconds())
	}
}

// setWorkers sets the figures of the workers, which have exited.
func (p *Phase) setWorkers(workers []*subprocess.Process, n int) {
	var cpu time.Duration
	var largest int64
	for _, w := range workers {
		if used, err := w.CPU(); err == nil {
			cpu += used
		}
		if peak, err := w.PeakMemory(); err == nil {
			largest = max(largest, peak)
		}
	}
	p.WorkerCPU = per100k(cpu, n)
	if largest > 0 {
		p.WorkerPeak = Figure(largest)
	}
}

// setProducer sets the CPU time of this process since a reading of ownCPU.
func (p *Phase) setProducer(before time.Duration, n int) {
	if now := ownCPU(); before > 0 && now > 0 {
		p.ProducerCPU = per100k(now-before, n)
	}
}

// ownCPU returns the CPU time of this process so far; 0: unknown.
func ownCPU() time.Duration {
	d, err := subprocess.OwnCPU()
	if err != nil {
		return 0
	}
	return d
}

// setRedis sets the figures of Redis in a phase with n tasks; before was read at its start.
func (p *Phase) setRedis(ctx context.Context, rdb redis.UniversalClient, before redisinfo.Info, n int) error {
	after, err := readInfo(ctx, rdb)
	if err != nil {
		return err
	}
	if commands, ok := after.Since(before, redisinfo.Commands); ok {
		p.RedisCommands = Figure(float64(commands) / float64(n))
	}
	from, okBefore := before.CPU()
	if to, ok := after.CPU(); ok && okBefore {
		p.RedisCPU = per100k(to-from, n)
	}
	if grown, ok := after.Since(before, redisinfo.Memory); ok {
		p.RedisMemory = Figure(float64(grown) / float64(n))
	}
	return nil
}

// readInfo reads INFO, which is empty when the server has no such command.
func readInfo(ctx context.Context, rdb redis.UniversalClient) (redisinfo.Info, error) {
	info, err := redisinfo.Read(ctx, rdb)
	if redis.HasErrorPrefix(err, "unknown command") {
		return redisinfo.Info{}, nil
	}
	return info, err
}

func per100k(d time.Duration, n int) Figure {
	if n == 0 {
		return unknown
	}
	return Figure(d.Seconds() / float64(n) * 100_000)
}
