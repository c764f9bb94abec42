package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wxcourier/wxcourier/bench/report"
	"github.com/wxcourier/wxcourier/internal/subprocess"
	"github.com/wxcourier/wxcourier/tasks"
)

// Targets of the case gateway.
const (
	gatewaySingles = 8_000.0  // requests a second
	gatewayP99     = 20.0     // ms
	gatewayLines   = 30_000.0 // a second
	gatewayMemory  = 80.0     // MB
)

// gatewayConns is the number of clients that send one task after the other.
const gatewayConns = 32

func (b *bench) gateway(ctx context.Context, t *report.Table) error {
	n, runs := sizeFor(b, 100_000, 5_000), b.runsOf(3)
	t.Title = "Gateway"
	t.About = fmt.Sprintf("The HTTP API of one `wxcourier gateway`, %d tasks of `send:subscribe` each, the median of %d runs, no worker. `POST /v1/tasks`: %d clients on connections that stay open, one task a request. `POST /v1/tasks:batch`: one request, by a gateway that has just started; its memory is the most that was resident (`VmHWM`). Compared with package tasks in a process of its own, on the same Redis in the same run. The clients use the same cores. Wanted: 8,000 requests a second with a p99 of 20 ms; 30,000 lines a second in 80 MB. 1 MB is 1,000,000 bytes.",
		n, runs, gatewayConns)
	t.Head = []string{"enqueued by", "tasks a second", "of SubmitMany", "p50", "p99", "Redis CPU a 1,000", "gateway's CPU a 1,000", "memory"}
	all := make([][]gatewayRun, len(gatewayWays()))
	for run := range runs {
		for i, way := range gatewayWays() {
			r, err := b.measureGateway(ctx, way, n)
			if err != nil {
				return fmt.Errorf("%s: %w", way.label, err)
			}
			b.logf("  run %d, %s: %.0f a second, p99 %.1f ms, %.1f MB", run+1, way.label, r.rate, r.p99, r.memory/1e6)
			all[i] = append(all[i], r)
		}
	}
	for i, way := range gatewayWays() {
		way.add(t, all[i], all[0])
	}
	return nil
}

// gatewayWay is a way to enqueue.
type gatewayWay struct {
	label   string
	http    bool
	enqueue func(ctx context.Context, l *lab, addr string, n int) (latencies []float64, err error)
	// Targets; 0: none.
	rate, p99, memory float64
}

// gatewayWays returns the ways, SubmitMany first.
func gatewayWays() []gatewayWay {
	return []gatewayWay{
		{label: "`Client.SubmitMany`, in this process", enqueue: submitMany},
		{label: fmt.Sprintf("`Client.Submit`, %d goroutines of this process", gatewayConns), enqueue: submitEach},
		{label: "`POST /v1/tasks`", http: true, enqueue: postEach, rate: gatewaySingles, p99: gatewayP99},
		{label: "`POST /v1/tasks:batch`", http: true, enqueue: postBatch, rate: gatewayLines, memory: gatewayMemory},
	}
}

// gatewayRun holds the figures of one run; those of the gateway are zero without one.
type gatewayRun struct{ rate, p50, p99, redisCPU, gatewayCPU, memory float64 }

// add adds the row of a way.
func (w gatewayWay) add(t *report.Table, runs, many []gatewayRun) {
	median := func(runs []gatewayRun, of func(gatewayRun) float64) float64 {
		var values []float64
		for _, r := range runs {
			values = append(values, of(r))
		}
		return report.Median(values)
	}
	rateOf := func(r gatewayRun) float64 { return r.rate }
	rate := report.Number(median(runs, rateOf), 0, "")
	p99 := report.Milliseconds(median(runs, func(r gatewayRun) float64 { return r.p99 }))
	memory := report.Megabytes(int64(median(runs, func(r gatewayRun) float64 { return r.memory })))
	if w.rate > 0 {
		rate = rate.AtLeast(w.rate)
	}
	if w.p99 > 0 {
		p99 = p99.AtMost(w.p99)
	}
	if w.memory > 0 {
		memory = memory.AtMost(w.memory)
	}
	latencies, of := []any{"–", "–"}, []any{"–", "–"}
	if runs[0].p50 > 0 {
		latencies = []any{report.Milliseconds(median(runs, func(r gatewayRun) float64 { return r.p50 })), p99}
	}
	if w.http {
		of = []any{report.Number(median(runs, func(r gatewayRun) float64 { return r.gatewayCPU }), 3, " s"), memory}
	}
	t.Add(w.label, rate, report.Percent(median(runs, rateOf)/median(many, rateOf)), latencies[0], latencies[1],
		report.Number(median(runs, func(r gatewayRun) float64 { return r.redisCPU }), 3, " s"), of[0], of[1])
}

// measureGateway enqueues n tasks on a new Redis, through a new gateway where the way needs one.
func (b *bench) measureGateway(ctx context.Context, w gatewayWay, n int) (gatewayRun, error) {
	l, err := b.newLab(ctx, labConfig{apps: 1})
	if err != nil {
		return gatewayRun{}, err
	}
	defer l.close()
	var process *subprocess.Process
	addr := ""
	if w.http {
		if process, addr, err = l.startGateway(ctx); err != nil {
			return gatewayRun{}, err
		}
	}
	before, err := l.usage(ctx)
	if err != nil {
		return gatewayRun{}, err
	}
	begun := time.Now()
	latencies, err := w.enqueue(ctx, l, addr, n)
	if err != nil {
		return gatewayRun{}, err
	}
	r := gatewayRun{rate: float64(n) / time.Since(begun).Seconds(), p50: 0}
	if len(latencies) > 0 {
		r.p50, r.p99 = report.Median(latencies), report.Quantile(latencies, 0.99)
	}
	after, err := l.usage(ctx)
	if err != nil {
		return gatewayRun{}, err
	}
	r.redisCPU = 1000 * after.since(before).cpu / float64(n)
	if process != nil {
		cpu, err := process.CPU()
		if err != nil {
			return gatewayRun{}, err
		}
		peak, err := process.PeakMemory()
		if err != nil {
			return gatewayRun{}, err
		}
		r.gatewayCPU, r.memory = 1000*cpu.Seconds()/float64(n), float64(peak)
	}
	return r, l.checkQueued(ctx, n)
}

// checkQueued returns an error unless n tasks wait.
func (l *lab) checkQueued(ctx context.Context, n int) error {
	queued, err := l.rdb.LLen(ctx, "asynq:{"+tasks.QueueName(appID(0), tasks.TypeSubscribe, tasks.Urgent)+"}:pending").Result()
	if err == nil && queued != int64(n) {
		err = fmt.Errorf("%d tasks were enqueued, not %d", queued, n)
	}
	return err
}

// startGateway starts a gateway and returns its address.
func (l *lab) startGateway(ctx context.Context) (*subprocess.Process, string, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, "", err
	}
	addr := listener.Addr().String()
	_ = listener.Close()
	p, err := l.start("gateway", l.bench.binary, "gateway", "-c", l.config, "--listen", addr)
	if err != nil {
		return nil, "", err
	}
	l.helpers = append(l.helpers, p)
	return p, addr, waitUntil(ctx, 10*time.Second, "the gateway listens", func() (bool, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil, p.ExitError()
	})
}

// envelope returns the JSON of the n-th task.
func gatewayEnvelope(n int) string {
	return fmt.Sprintf(`{"type":"send:subscribe","app":%q,"id":"g-%d","body":{"touser":"oBench%d","template_id":"TEMPLATE_ID_0123456789012345678901234567890","page":"pages/index/index","data":{"thing1":{"value":"订单已发货"},"time2":{"value":"2026-12-01 08:00"},"character_string3":{"value":"%d"}}}}`,
		appID(0), n, n, n)
}

func submitMany(ctx context.Context, l *lab, _ string, n int) ([]float64, error) {
	envelopes := make([]tasks.Envelope, n)
	for i := range envelopes {
		var err error
		if envelopes[i], err = tasks.ParseEnvelope([]byte(gatewayEnvelope(i))); err != nil {
			return nil, err
		}
	}
	for _, r := range l.client.SubmitMany(ctx, envelopes) {
		if r.Err != nil {
			return nil, r.Err
		}
	}
	return nil, nil
}

func submitEach(ctx context.Context, l *lab, _ string, n int) ([]float64, error) {
	return inParallel(n, func(int) (func(int) error, error) {
		return func(i int) error {
			e, err := tasks.ParseEnvelope([]byte(gatewayEnvelope(i)))
			if err == nil {
				_, err = l.client.Submit(ctx, e)
			}
			return err
		}, nil
	})
}

// inParallel makes gatewayConns clients, which share the numbers below n, and returns the
// milliseconds of each call.
func inParallel(n int, client func(c int) (func(i int) error, error)) ([]float64, error) {
	took, errs := make([][]float64, gatewayConns), make([]error, gatewayConns)
	var next atomic.Int64
	var all sync.WaitGroup
	for c := range gatewayConns {
		all.Go(func() {
			call, err := client(c)
			for i := int(next.Add(1)) - 1; i < n && err == nil; i = int(next.Add(1)) - 1 {
				begun := time.Now()
				err = call(i)
				took[c] = append(took[c], float64(time.Since(begun))/1e6)
			}
			errs[c] = err
		})
	}
	all.Wait()
	var latencies []float64
	for _, some := range took {
		latencies = append(latencies, some...)
	}
	return latencies, errors.Join(errs...)
}

// postEach sends each task as a request. It writes and reads HTTP by itself: net/http's client
// would take as much of the processor as the gateway.
func postEach(ctx context.Context, _ *lab, addr string, n int) ([]float64, error) {
	return inParallel(n, func(int) (func(int) error, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		if err != nil {
			return nil, err
		}
		context.AfterFunc(ctx, func() { _ = conn.Close() })
		answers := bufio.NewReader(conn)
		var request bytes.Buffer
		return func(i int) error {
			body := gatewayEnvelope(i)
			request.Reset()
			fmt.Fprintf(&request, "POST /v1/tasks HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", addr, len(body), body)
			if _, err := conn.Write(request.Bytes()); err != nil {
				return err
			}
			return readAnswer(answers, http.StatusAccepted)
		}, nil
	})
}

// readAnswer reads an answer that has a Content-Length.
func readAnswer(r *bufio.Reader, status int) error {
	length := -1
	for first := true; ; first = false {
		line, err := r.ReadString('\n')
		if err != nil {
			return err
		}
		line = strings.TrimSpace(line)
		switch name, value, _ := strings.Cut(line, ":"); {
		case first && !strings.Contains(line, " "+strconv.Itoa(status)+" "):
			return fmt.Errorf("the gateway answered %q", line)
		case strings.EqualFold(name, "Content-Length"):
			if length, err = strconv.Atoi(strings.TrimSpace(value)); err != nil {
				return err
			}
		case line == "":
			if length < 0 {
				return errors.New("an answer without Content-Length")
			}
			_, err := r.Discard(length)
			return err
		}
	}
}

// postBatch sends all tasks as one request.
func postBatch(ctx context.Context, _ *lab, addr string, n int) ([]float64, error) {
	body, lines := io.Pipe()
	go func() {
		w := bufio.NewWriterSize(lines, 64<<10)
		for i := range n {
			_, _ = w.WriteString(gatewayEnvelope(i) + "\n")
		}
		_ = lines.CloseWithError(w.Flush())
	}()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+addr+"/v1/tasks:batch", body)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	if answered := bytes.Count(text, []byte(`"status":202`)); response.StatusCode != http.StatusOK || answered != n {
		return nil, fmt.Errorf("status %d, %d of %d lines were enqueued", response.StatusCode, answered, n)
	}
	return nil, nil
}
