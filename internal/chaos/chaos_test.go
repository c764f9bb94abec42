package chaos

import (
	"testing"
	"time"

	"github.com/wxcourier/wxcourier/configs"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/sandbox"
)

// killEvery is how often a replica dies.
const killEvery = 2 * time.Second

// sendSeconds is for how long n tasks are sent, when nothing breaks: at most so many in one.
func sendSeconds(n, most int) int { return max(16, n/most) }

// injectFaults lets WeChat answer -1 to 2 of 100 calls, and break 1 of 100 connections when
// it has taken the message.
func (w *world) injectFaults() {
	w.t.Helper()
	for name, rate := range map[string]float64{"busy": 0.02, "lost": 0.01} {
		if _, err := w.wx.AddFault(sandbox.Fault{Name: name, Rate: rate}); err != nil {
			w.t.Fatal(err)
		}
	}
}

// TestChaos: four replicas, of which one is killed every two seconds, a Redis that is
// killed twice and takes its time to load its data, a token that is revoked, a WeChat
// that is busy and breaks connections. Every task has one outcome, no message arrives
// twice, what is unknown was in flight when something broke, and asynq has nothing left.
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

// aofDelay is how long Redis may keep what it has answered for out of its file while the disk
// is busy with what came before (flushAppendOnlyFile in its aof.c).
const aofDelay = 2 * time.Second

// TestPowerCut: Redis with `appendfsync everysec` loses its last second, as in a power
// failure. Every task still has one outcome; only messages of that second may arrive
// twice, and they are counted.
func TestPowerCut(t *testing.T) {
	t.Parallel()
	n := size(t, 300, 10)
	server := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "everysec", "--auto-aof-rewrite-percentage", "0")
	w := newWorld(t, settings{redis: configs.Redis{Addrs: []string{server.Addr()}}, tasks: n, limits: limitsFor(n, sendSeconds(n, 50))})
	w.injectFaults()
	all, file := w.mixed(n)
	w.enqueue(file)
	fleet := w.fleet(2)
	redistest.Until(t, time.Minute, "half of it is called", func() bool { return w.sends() > n/2 })

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
