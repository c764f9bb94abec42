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

// A trouble is something that happens to Redis, and how it ends.
type trouble struct {
	name   string
	server []string // options of redis-server
	begin  func(t *testing.T, s *stage)
	end    func(t *testing.T, s *stage)
	stands bool   // nothing may be sent while it lasts
	says   string // what the log has of it
}

// stage is where a trouble happens.
type stage struct {
	*rig
	server *redistest.Server
	rdb    redis.UniversalClient // past the proxy
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
	{name: "out of memory", begin: set("maxmemory", "1"), end: set("maxmemory", "0"), stands: true, says: "OOM command not allowed"},
	{name: "read only", begin: follow("127.0.0.1", "1"), end: follow("no", "one"), stands: true, says: "READONLY"},
	{name: "without its replicas", begin: set("min-replicas-to-write", "1"), end: set("min-replicas-to-write", "0"), stands: true, says: "NOREPLICAS"},
	{name: "slow", begin: func(_ *testing.T, s *stage) { s.proxy.delay.Store(int64(300 * time.Millisecond)) }, end: func(_ *testing.T, s *stage) { s.proxy.delay.Store(0) }},
	{name: "a storm of lost connections", begin: storm, end: func(_ *testing.T, s *stage) { close(s.stop); s.done.Wait() }},
	{
		name: "away", server: []string{"--appendonly", "yes", "--appendfsync", "always"},
		begin: func(_ *testing.T, s *stage) { s.server.Kill() }, end: func(_ *testing.T, s *stage) { s.server.Restart() },
		stands: true, says: "Redis does not answer",
	},
	{
		name:   "loading",
		server: []string{"--appendonly", "yes", "--appendfsync", "always", "--key-load-delay", "100"},
		begin:  loading,
		end:    func(_ *testing.T, s *stage) { s.done.Wait() }, says: "LOADING",
	},
}

// loading restarts Redis with so many keys that it answers LOADING for some seconds: it
// looks at its clients once in 1024 commands that it reads from its file.
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

// storm breaks all connections, again and again.
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

// leasesOut is when a task whose dequeue got no answer may be found by a replica that
// starts: asynq's lease, and as long again.
const leasesOut = 61 * time.Second

// lasting is for how long a trouble goes on.
const lasting = 3 * time.Second

// TestRedisInTrouble: whatever Redis does for a while, nothing is lost and nothing is
// doubled, the replicas neither spin nor flood the log, and all goes on by itself.
func TestRedisInTrouble(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("skipped: -short, troubles take their time")
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

// happen lets the trouble pass, and checks that the replicas bear it quietly.
func (tr trouble) happen(t *testing.T, s *stage) {
	lines, commands := strings.Count(s.log.String(), "\n"), s.commands(t)
	began := time.Now()
	lasts := func(d time.Duration) {
		redistest.Until(t, time.Minute, "the trouble has lasted", func() bool { return time.Since(began) > d })
	}
	tr.begin(t, s)
	lasts(lasting / 2) // by then what was in hand has ended
	before := s.sent()
	lasts(lasting)
	if more := s.sent() - before; tr.stands && more > 0 {
		t.Errorf("%d calls that could not be accounted for", more)
	}
	tr.end(t, s)
	took := time.Since(began).Seconds()
	asked := s.commands(t) - commands // negative after a restart, which begins the count anew
	said := strings.Split(s.log.String(), "\n")[lines:]
	t.Logf("in %.1f s: %d log lines, %d Redis commands", took, len(said), asked)
	if len(said) > 400 {
		t.Errorf("%d log lines in %.1f s:\n%s", len(said), took, strings.Join(said[:40], "\n"))
	}
	if tr.stands && asked > int(600*took) {
		t.Errorf("%d commands in %.1f s: it spins", asked, took)
	}
	text := strings.Join(said, "\n")
	if n := strings.Count(text, "Redis does not answer"); n > 2 {
		t.Errorf("two replicas said %d times that Redis is away", n)
	}
	if !strings.Contains(text, tr.says) {
		t.Errorf("the log does not say %q", tr.says)
	}
}

// allAccepted waits for all outcomes, and checks that each message arrived once.
func (s *stage) allAccepted(t *testing.T, n int, limits map[string]ratelimit.Limit) {
	ended := time.Now()
	for i := range n {
		id := fmt.Sprintf("m%d", i)
		redistest.Until(t, 3*time.Minute, id+" has an outcome", func() bool {
			if time.Since(ended) > leasesOut {
				s.replica(limits) // it looks at once for what lost its runner, the others once a minute
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

// commands counts what Redis was asked, what it refused included; 0 while it does not
// tell.
func (s *stage) commands(t *testing.T) (n int) {
	for _, found := range regexp.MustCompile(`(?:[:,]calls|rejected_calls)=(\d+)`).FindAllStringSubmatch(s.rdb.Info(t.Context(), "commandstats").Val(), -1) {
		calls, _ := strconv.Atoi(found[1])
		n += calls
	}
	return n
}

// proxy stands between the replicas and Redis, and delays what Redis says.
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

// pass copies one direction until either end closes.
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
