package worker_test

import (
	"fmt"
	"io"
	"net"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/sandbox"
	"github.com/wxcourier/wxcourier/tasks"
)

const sendPath = "/cgi-bin/message/subscribe/send"

// A trouble is a fault of Redis.
type trouble struct {
	name   string
	server []string // options of redis-server
	begin  func(t *testing.T, s *stage)
	end    func(t *testing.T, s *stage)
	stops  bool   // no request may be sent during the fault
	logs   string // a text that the log must contain
}

// stage is a rig whose replicas reach Redis through a proxy.
type stage struct {
	*rig
	server *redistest.Server
	rdb    redis.UniversalClient // without the proxy
	proxy  *proxy
	stop   chan struct{}
	done   sync.WaitGroup
}

func set(name, value string) func(*testing.T, *stage) {
	return func(t *testing.T, s *stage) {
		if err := s.rdb.ConfigSet(t.Context(), name, value).Err(); err != nil {
			t.Fatal(err)
		}
	}
}

func follow(host, port string) func(*testing.T, *stage) {
	return func(t *testing.T, s *stage) {
		if err := s.rdb.SlaveOf(t.Context(), host, port).Err(); err != nil {
			t.Fatal(err)
		}
	}
}

var troubles = []trouble{
	{name: "out of memory", begin: set("maxmemory", "1"), end: set("maxmemory", "0"), stops: true, logs: "OOM command not allowed"},
	{name: "read only", begin: follow("127.0.0.1", "1"), end: follow("no", "one"), stops: true, logs: "READONLY"},
	{name: "without its replicas", begin: set("min-replicas-to-write", "1"), end: set("min-replicas-to-write", "0"), stops: true, logs: "NOREPLICAS"},
	{name: "slow", begin: func(_ *testing.T, s *stage) { s.proxy.delay.Store(int64(300 * time.Millisecond)) }, end: func(_ *testing.T, s *stage) { s.proxy.delay.Store(0) }},
	{name: "a storm of lost connections", begin: storm, end: func(_ *testing.T, s *stage) { close(s.stop); s.done.Wait() }},
	{
		name: "away", server: []string{"--appendonly", "yes", "--appendfsync", "always"},
		begin: func(_ *testing.T, s *stage) { s.server.Kill() }, end: func(_ *testing.T, s *stage) { s.server.Restart() },
		stops: true, logs: "Redis does not answer",
	},
	{
		name:   "loading",
		server: []string{"--appendonly", "yes", "--appendfsync", "always", "--key-load-delay", "100"},
		begin:  loading,
		end:    func(_ *testing.T, s *stage) { s.done.Wait() }, logs: "LOADING",
	},
}

// loading restarts Redis with so many keys that it replies LOADING for some seconds: while it
// loads, it serves its clients once in 1024 commands of its file.
func loading(t *testing.T, s *stage) {
	_, err := s.rdb.Pipelined(t.Context(), func(p redis.Pipeliner) error {
		for i := range 30_000 {
			p.Set(t.Context(), fmt.Sprint("filler", i), "x", 0)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	s.server.Kill()
	s.done.Go(s.server.Restart)
}

// storm closes all connections every 50 ms.
func storm(t *testing.T, s *stage) {
	s.done.Go(func() {
		for {
			s.rdb.ClientKillByFilter(t.Context(), "TYPE", "normal", "SKIPME", "yes")
			s.rdb.ClientKillByFilter(t.Context(), "TYPE", "pubsub")
			select {
			case <-s.stop:
				return
			case <-time.After(50 * time.Millisecond):
			}
		}
	})
}

// leasesOut is the age at which a replica that starts may recover a task whose dequeue got no
// reply: twice asynq's lease.
const leasesOut = 61 * time.Second

// lasting is the length of a fault.
const lasting = 3 * time.Second

// TestRedisInTrouble: with each fault of Redis no task is lost or sent twice, the replicas
// neither spin nor flood the log, and they recover without further action.
func TestRedisInTrouble(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("skipped: -short, each fault takes seconds")
	}
	for _, trouble := range troubles {
		t.Run(trouble.name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t, trouble.server...)
			s := &stage{server: server, rdb: server.Client(t), proxy: newProxy(t, server.Addr()), stop: make(chan struct{})}
			s.rig = newRig(t, s.proxy.addr, sandbox.Options{Latency: 100 * time.Millisecond})
			trouble.play(t, s)
		})
	}
}

// play enqueues messages, lets the fault happen, and waits for the outcomes.
func (tr trouble) play(t *testing.T, s *stage) {
	const n = 200
	for i := range n {
		s.submit(message(fmt.Sprintf("m%d", i), fmt.Sprintf("o%d", i)))
	}
	limits := map[string]ratelimit.Limit{tasks.TypeSubscribe: {PerSecond: 40}}
	s.replica(limits)
	s.replica(limits)
	redistest.Until(t, 20*time.Second, "calls are under way", func() bool { return s.sent() > 20 })
	tr.happen(t, s)
	s.allAccepted(t, n, limits)
}

func (s *stage) sent() int { return s.wx.Count(sandbox.Filter{Path: sendPath}) }

// happen begins and ends the fault, and checks the calls, the commands and the log meanwhile.
func (tr trouble) happen(t *testing.T, s *stage) {
	lines, commands := strings.Count(s.log.String(), "\n"), s.commands(t)
	began := time.Now()
	lasts := func(d time.Duration) {
		redistest.Until(t, time.Minute, "the fault has lasted", func() bool { return time.Since(began) > d })
	}
	tr.begin(t, s)
	lasts(lasting / 2) // by then the calls in flight have ended
	before := s.sent()
	lasts(lasting)
	if more := s.sent() - before; tr.stops && more > 0 {
		t.Errorf("%d calls whose outcomes could not be recorded", more)
	}
	tr.end(t, s)
	took := time.Since(began).Seconds()
	sent := s.commands(t) - commands // negative after a restart, which resets the count
	logged := strings.Split(s.log.String(), "\n")[lines:]
	t.Logf("in %.1f s: %d log lines, %d Redis commands", took, len(logged), sent)
	if len(logged) > 400 {
		t.Errorf("%d log lines in %.1f s:\n%s", len(logged), took, strings.Join(logged[:40], "\n"))
	}
	if tr.stops && sent > int(600*took) {
		t.Errorf("%d commands in %.1f s: the replicas spin", sent, took)
	}
	text := strings.Join(logged, "\n")
	if n := strings.Count(text, "Redis does not answer"); n > 2 {
		t.Errorf("two replicas logged %d times that Redis does not answer", n)
	}
	if !strings.Contains(text, tr.logs) {
		t.Errorf("the log does not contain %q", tr.logs)
	}
}

// allAccepted waits for all outcomes, and checks that each message was delivered once.
func (s *stage) allAccepted(t *testing.T, n int, limits map[string]ratelimit.Limit) {
	ended := time.Now()
	for i := range n {
		id := fmt.Sprintf("m%d", i)
		redistest.Until(t, 3*time.Minute, id+" has an outcome", func() bool {
			if time.Since(ended) > leasesOut {
				s.replica(limits) // a new replica recovers tasks at once, the others once a minute
				ended = time.Now()
			}
			got, err := s.client.Result(t.Context(), app, id)
			if err == nil && got.Outcome != "" && got.Outcome != tasks.OutcomeAccepted {
				t.Fatalf("%s: %s %s", id, got.Outcome, got.Reason)
			}
			return err == nil && got.Outcome != ""
		})
	}
	if d := s.wx.Duplicates(); len(d) > 0 {
		t.Errorf("%d messages were delivered twice", len(d))
	}
	if got := s.wx.Count(sandbox.Filter{Path: sendPath, Delivered: true}); got != n {
		t.Errorf("%d delivered, want %d", got, n)
	}
}

// commands returns the number of commands that Redis got, including refused ones; 0 while it
// does not answer.
func (s *stage) commands(t *testing.T) (n int) {
	for _, found := range regexp.MustCompile(`(?:[:,]calls|rejected_calls)=(\d+)`).FindAllStringSubmatch(s.rdb.Info(t.Context(), "commandstats").Val(), -1) {
		calls, _ := strconv.Atoi(found[1])
		n += calls
	}
	return n
}

// proxy is a TCP proxy to Redis that delays the replies.
type proxy struct {
	addr  string
	delay atomic.Int64 // time.Duration
}

func newProxy(t *testing.T, to string) *proxy {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	p := &proxy{addr: l.Addr().String()}
	go func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", to)
			if err != nil {
				_ = near.Close()
				continue
			}
			go p.pass(far, near, false)
			go p.pass(near, far, true)
		}
	}()
	return p
}

// pass copies one direction until either connection closes.
func (p *proxy) pass(to, from net.Conn, slowly bool) {
	defer func() { _, _ = to.Close(), from.Close() }()
	if !slowly {
		_, _ = io.Copy(to, from)
		return
	}
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if delay := time.Duration(p.delay.Load()); delay > 0 {
			time.Sleep(delay)
		}
		if _, failed := to.Write(buffer[:n]); err != nil || failed != nil {
			return
		}
	}
}
