package chaos

import (
	"testing"
	"time"

	"github.com/wxcourier/wxcourier/configs"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/sandbox"
)

// killEvery is the interval at which a replica is killed.
const killEvery = 2 * time.Second

// sendSeconds returns the seconds that sending n tasks takes without faults, at most `most` per second.
func sendSeconds(n, most int) int { return max(16, n/most) }

// injectFaults makes WeChat answer -1 to 2 % of the calls, and break 1 % of the connections after it
// accepted the message.
func (w *world) injectFaults() {
	w.t.Helper()
	for name, rate := range map[string]float64{"busy": 0.02, "lost": 0.01} {
		if _, err := w.wx.AddFault(sandbox.Fault{Name: name, Rate: rate}); err != nil {
			w.t.Fatal(err)
		}
	}
}

// TestChaos: one of four replicas is killed every two seconds, Redis is killed twice and reloads its
// data, the tokens are revoked, and WeChat is busy and breaks connections. Every task has one
// outcome, no message arrives twice, tasks that ended as unknown were in flight during a fault, and
// nothing is left in asynq.
func TestChaos(t *testing.T) {
	t.Parallel()
	n := size(t, 600, 1)
	server := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
	w := newWorld(t, settings{redis: configs.Redis{Addrs: []string{server.Addr()}}, tasks: n, limits: limitsFor(n, sendSeconds(n, 150))})
	w.injectFaults()
	all, file := w.mixed(n)
	fleet := w.fleet(4)
	enqueued := make(chan struct{})
	go func() {
		defer close(enqueued)
		w.enqueue(file)
	}()
	restart := func() {
		from := time.Now()
		server.Kill()
		server.Restart()
		w.faults.add(fault{what: "Redis was killed", from: from, to: time.Now()})
	}
	steps := []struct {
		after int // calls
		step  func()
	}{
		{n / 4, restart},
		{n / 2, func() { w.wx.Revoke(mini); w.wx.Revoke(official); w.wx.Revoke(third) }},
		{n * 3 / 4, restart},
	}
	ticker := time.NewTicker(killEvery)
	defer ticker.Stop()
	for next := 0; w.sends() < n*9/10 || next < len(steps); {
		fleet.restartEnded()
		if next < len(steps) && w.sends() >= steps[next].after {
			steps[next].step()
			next++
		}
		select {
		case <-ticker.C:
			fleet.kill()
		case <-time.After(50 * time.Millisecond):
		}
	}
	<-enqueued
	w.settle(fleet, n, 5*time.Minute)
	fleet.stop()
	a := w.audit(all)
	a.noDuplicates()
	a.unknownsWereInFlight()
}

// aofDelay is how long Redis may delay the write of acknowledged commands to its file while an earlier
// fsync is running (flushAppendOnlyFile in its aof.c).
const aofDelay = 2 * time.Second

// TestPowerCut: Redis with `appendfsync everysec` loses its last second, as in a power failure. Every
// task has one outcome; only messages sent in that second may arrive twice.
func TestPowerCut(t *testing.T) {
	t.Parallel()
	n := size(t, 300, 10)
	server := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "everysec", "--auto-aof-rewrite-percentage", "0")
	w := newWorld(t, settings{redis: configs.Redis{Addrs: []string{server.Addr()}}, tasks: n, limits: limitsFor(n, sendSeconds(n, 50))})
	w.injectFaults()
	all, file := w.mixed(n)
	w.enqueue(file)
	fleet := w.fleet(2)
	redistest.Until(t, time.Minute, "half of the calls were made", func() bool { return w.sends() > n/2 })

	mark, written := time.Now(), server.Written()
	redistest.Until(t, 10*time.Second, "a second has passed", func() bool { return time.Since(mark) > time.Second })
	server.PowerCut(written)
	cut := time.Now()
	server.Restart()
	lost := mark.Add(-aofDelay)
	w.faults.add(fault{what: "Redis lost its last second", from: lost, to: time.Now()})

	w.settle(fleet, n, 5*time.Minute)
	fleet.stop()
	a := w.audit(all)
	a.duplicatesWithin(lost, cut)
	a.unknownsWereInFlight()
}
