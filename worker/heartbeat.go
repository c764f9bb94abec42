package worker

import (
	"context"
	"log/slog"
	"os"
	"time"

	"github.com/wxcourier/wxcourier/internal/buildinfo"
	"github.com/wxcourier/wxcourier/internal/heartbeat"
)

// removeTimeout bounds how long a replica that stops waits for Redis to take it off a list.
const removeTimeout = time.Second

// Configuration is what a replica tells about its configuration.
type Configuration = heartbeat.Configuration

// SetConfiguration sets what `wxcourier status` shows about the configuration of the replica. It may
// be called at any time, from any goroutine.
func (r *Replica) SetConfiguration(c Configuration) {
	r.configuration.Store(&c)
	r.beatNow()
}

// beatNow renews the entry of the replica soon.
func (r *Replica) beatNow() {
	select {
	case r.beats <- struct{}{}:
	default:
	}
}

// beat keeps the replica in the list of replicas until lifetime ends: `wxcourier status` shows it,
// whether it has work or not. stopping ends when the replica begins to stop.
func (r *Replica) beat(lifetime, stopping context.Context) {
	entry := heartbeat.Replica{
		ID: r.id, PID: os.Getpid(), Version: buildinfo.Version(), Started: time.Now().Truncate(time.Second),
	}
	entry.Host, _ = os.Hostname()
	ticker := time.NewTicker(heartbeat.Every)
	defer ticker.Stop()
	for lifetime.Err() == nil {
		r.beatOnce(lifetime, entry)
		begins := stopping.Done()
		if entry.Stopping {
			begins = nil
		}
		select {
		case <-ticker.C:
		case <-r.beats:
		case <-begins:
			entry.Stopping = true
		case <-lifetime.Done():
		}
	}
	removed := make(chan struct{})
	go func() { // Redis may hang, and the shutdown must not
		defer close(removed)
		_ = heartbeat.Remove(context.WithoutCancel(lifetime), r.rdb, r.id) // it is forgotten later
	}()
	select {
	case <-removed:
	case <-time.After(removeTimeout):
	}
}

// beatOnce writes the entry of the replica.
func (r *Replica) beatOnce(ctx context.Context, entry heartbeat.Replica) {
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	entry.Apps, entry.Configuration = len(r.apps.all()), r.configuration.Load()
	for _, l := range r.fleet.snapshot() {
		entry.Lanes++
		entry.Active += int(l.active.Load())
	}
	if err := heartbeat.Beat(ctx, r.rdb, entry); err != nil {
		r.log.Debug("the heartbeat could not be written", slog.Any("err", err)) // the fleet logs that Redis is away
	}
}
