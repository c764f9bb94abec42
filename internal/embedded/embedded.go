// Package embedded runs a Redis inside the process: miniredis on a loopback port, with a clock
// that advances. Its data are lost at exit.
//
// It is for trials and one-off runs. Its lists and sorted sets are slices, so a backlog of
// more than a few thousand tasks makes every command slow: enqueue tasks only as fast as they
// are delivered.
package embedded

import (
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"
)

// tick is how often the clock of the TTLs advances. miniredis expires keys only when
// FastForward is called.
const tick = time.Second

// Redis is a running embedded Redis. Close stops it.
type Redis struct {
	server *miniredis.Miniredis
	quit   chan struct{}
	clock  sync.WaitGroup
	once   sync.Once
	ahead  atomic.Int64 // how far the clock is ahead of the machine's, in nanoseconds
}

// Start starts an embedded Redis on a free loopback port.
func Start() (*Redis, error) {
	server, err := miniredis.Run()
	if err != nil {
		return nil, fmt.Errorf("start the embedded Redis: %w", err)
	}
	r := &Redis{server: server, quit: make(chan struct{})}
	r.clock.Go(r.runClock)
	return r, nil
}

// Addr returns the address as host:port. Clients connect over TCP.
func (r *Redis) Addr() string { return r.server.Addr() }

// Protect requires the password from clients, since every process on the machine can connect
// to the port.
func (r *Redis) Protect(password string) { r.server.RequireAuth(password) }

// Advance moves the clock forward: TIME, in scripts too, the ids of streams, and the times to
// live of all keys. A test moves it while no client uses the old time.
func (r *Redis) Advance(d time.Duration) {
	r.ahead.Add(int64(d))
	r.server.Server().SetPreHook(r.serveTime)
	r.server.SetTime(r.now())
	r.server.FastForward(d)
}

func (r *Redis) now() time.Time { return time.Now().Add(time.Duration(r.ahead.Load())) }

// serveTime answers TIME: miniredis' clock stands still after SetTime. It is called before each
// command, also of scripts.
func (r *Redis) serveTime(c *server.Peer, command string, args ...string) (answered bool) {
	if command != "TIME" || len(args) > 0 {
		return false
	}
	now := r.now()
	c.WriteLen(2)
	c.WriteBulk(strconv.FormatInt(now.Unix(), 10))
	c.WriteBulk(strconv.Itoa(now.Nanosecond() / 1000))
	return true
}

// Close stops the clock and the server, and drops all data. It may be called again.
func (r *Redis) Close() {
	r.once.Do(func() {
		close(r.quit)
		r.clock.Wait()
		r.server.Close()
	})
}

func (r *Redis) runClock() {
	t := time.NewTicker(tick)
	defer t.Stop()
	last := time.Now()
	for {
		select {
		case <-r.quit:
			return
		case now := <-t.C:
			r.server.FastForward(now.Sub(last))
			if r.ahead.Load() > 0 {
				r.server.SetTime(r.now())
			}
			last = now
		}
	}
}
