// Package embedded is the Redis for those who have none: miniredis inside the
// process, on a loopback port, with a clock that moves. It keeps nothing after exit.
//
// It is for trying things out and for one-off runs. Its lists and sorted sets are
// plain slices, so feed it as it drains: a backlog of more than a few thousand
// tasks makes every command slow.
package embedded

import (
	"fmt"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"
)

// tick is how often the clock of the expiry times moves. miniredis leaves TTLs
// alone until it is told that time has passed.
const tick = time.Second

// Redis is a running embedded Redis. Close ends it.
type Redis struct {
	server *miniredis.Miniredis
	quit   chan struct{}
	clock  sync.WaitGroup
	once   sync.Once
}

// Start listens on a free loopback port.
func Start() (*Redis, error) {
	server, err := miniredis.Run()
	if err != nil {
		return nil, fmt.Errorf("start the embedded Redis: %w", err)
	}
	r := &Redis{server: server, quit: make(chan struct{})}
	r.clock.Go(r.runClock)
	return r, nil
}

// Addr is host:port. The embedded Redis speaks TCP, as a real one does.
func (r *Redis) Addr() string { return r.server.Addr() }

// Protect lets in only clients that give the password: what else runs on the machine can
// reach the port.
func (r *Redis) Protect(password string) { r.server.RequireAuth(password) }

// Close stops the clock and the server, and drops all data. Closing twice is no error.
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
			last = now
		}
	}
}
