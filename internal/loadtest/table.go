package loadtest

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/wxcourier/wxcourier/internal/summary"
	"github.com/wxcourier/wxcourier/tasks"
)

const tableRow = "%-36s%12s%12s%12s\n"

// Write writes the report as a table for people.
func (r Report) Write(w io.Writer) error {
	var b strings.Builder
	r.conditions(&b)
	e, d, l := r.Enqueue, r.Drain, r.EndToEnd
	fmt.Fprintf(&b, tableRow, "", "enqueue", "drain", "end to end")
	row := func(name string, show func(Figure) string, values ...Figure) {
		var cells [3]string
		for i, v := range values {
			if v.known() {
				cells[i] = show(v)
			}
		}
		if cells != [3]string{} {
			b.WriteString(strings.TrimRight(fmt.Sprintf(tableRow, name, cells[0], cells[1], cells[2]), " \n") + "\n")
		}
	}
	row("tasks", whole, Figure(e.Tasks), Figure(d.Tasks), Figure(l.Tasks))
	row("tasks per second", whole, e.Rate, d.Rate, l.Rate)
	row("share of the limit used", percent, unknown, d.LimitUsed, unknown)
	row("p50 from enqueue to outcome", seconds, unknown, unknown, l.P50)
	row("p99 from enqueue to outcome", seconds, unknown, unknown, l.P99)
	row("CPU s per 100,000: producer", short, e.ProducerCPU, unknown, l.ProducerCPU)
	row("CPU s per 100,000: workers", short, unknown, d.WorkerCPU, l.WorkerCPU)
	row("CPU s per 100,000: Redis", short, e.RedisCPU, d.RedisCPU, l.RedisCPU)
	row("Redis commands per task", short, e.RedisCommands, d.RedisCommands, l.RedisCommands)
	row("Redis memory growth per task, bytes", whole, e.RedisMemory, d.RedisMemory, l.RedisMemory)
	row("peak memory of a worker, MB", megabytes, unknown, d.WorkerPeak, l.WorkerPeak)
	r.remarks(&b)
	_, err := io.WriteString(w, b.String())
	return err
}

func (r Report) conditions(b *strings.Builder) {
	limit := "no limit"
	if r.Limit != nil {
		limit = "limit " + summary.Number(*r.Limit) + " per second"
	}
	fmt.Fprintf(b, "wxcourier %s on %s, %d CPUs\n", r.Version, r.System, r.CPUs)
	fmt.Fprintf(b, "%s: %d × %d concurrent calls, answered after %v, %s\n", r.Type, r.Replicas, r.Concurrency, time.Duration(float64(r.Latency)*float64(time.Second)), limit)
	version := r.Redis.Version
	if version != "" {
		version = " " + version
	}
	fmt.Fprintf(b, "Redis%s at %s, %s\n\n", version, r.Redis.Address, map[Kind]string{
		Named: "from --redis", Configured: "from the configuration", Started: "started for this run, without persistence",
		Embedded: "embedded: rates and the producer's CPU include it, and do not apply to a real Redis",
	}[r.Redis.Kind])
}

// remarks writes notes on how to read the table.
func (r Report) remarks(b *strings.Builder) {
	b.WriteString("\n")
	if l := r.EndToEnd; l.Offered.known() {
		fmt.Fprintf(b, "End to end offered %s tasks per second.", whole(l.Offered))
		if l.Rate.known() && l.Rate < 0.95*l.Offered {
			b.WriteString(" The producer did not reach that rate: the machine is too slow.")
		}
		b.WriteString("\n")
	}
	if r.SandboxCPU.known() {
		fmt.Fprintf(b, "The stand-in for WeChat used %s CPU s per 100,000 on this machine.\n", short(r.SandboxCPU))
	}
	if r.Redis.Kind == Named || r.Redis.Kind == Configured {
		b.WriteString("The figures of Redis include its other clients.\n")
	}
	for _, p := range []struct {
		name  string
		phase Phase
	}{{"drain", r.Drain}, {"end to end", r.EndToEnd.Phase}} {
		for _, o := range tasks.Outcomes() {
			if n := p.phase.Outcomes[o]; n > 0 && o != tasks.OutcomeAccepted {
				fmt.Fprintf(b, "%s: %s tasks ended as %s.\n", p.name, summary.Number(n), o)
			}
		}
	}
}

func whole(f Figure) string { return summary.Number(int(f + 0.5)) }

func short(f Figure) string { return strconv.FormatFloat(float64(f), 'f', 1, 64) }

func percent(f Figure) string { return short(f*100) + " %" }

func megabytes(f Figure) string { return short(f / (1 << 20)) }

func seconds(f Figure) string { return short(f*1000) + " ms" }
