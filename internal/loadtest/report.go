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

func (p *Phase) workers(u usage, n int) {
	p.WorkerCPU = per100k(u.cpu, n)
	if u.peak > 0 {
		p.WorkerPeak = Figure(u.peak)
	}
}

// redis sets the Redis figures of a phase with n tasks; before was read at its start.
func (p *Phase) redis(ctx context.Context, rdb redis.UniversalClient, before redisStats, n int) error {
	after, err := readRedisStats(ctx, rdb)
	if err != nil {
		return err
	}
	if before.commands >= 0 && after.commands >= 0 {
		p.RedisCommands = Figure(float64(after.commands-before.commands) / float64(n))
	}
	if before.cpu >= 0 && after.cpu >= 0 {
		p.RedisCPU = per100k(after.cpu-before.cpu, n)
	}
	if before.memory >= 0 && after.memory >= 0 {
		p.RedisMemory = Figure(float64(after.memory-before.memory) / float64(n))
	}
	return nil
}

func per100k(d time.Duration, n int) Figure {
	if n == 0 {
		return unknown
	}
	return Figure(d.Seconds() / float64(n) * 100_000)
}
