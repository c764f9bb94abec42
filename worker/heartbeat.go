package worker

import (
	"github.com/wxcourier/wxcourier/internal/heartbeat"
)

// Configuration is what a replica tells about its configuration.
type Configuration = heartbeat.Configuration

// SetConfiguration sets what `wxcourier status` shows about the configuration of the replica. It may
// be called at any time, from any goroutine.
func (r *Replica) SetConfiguration(c Configuration) { r.beater.SetConfiguration(c) }

// load sets in the entry of the replica in the list of replicas what changes while it runs.
func (r *Replica) load(entry *heartbeat.Replica) {
	entry.Apps = len(r.apps.all())
	for _, l := range r.fleet.snapshot() {
		entry.Lanes++
		entry.Active += int(l.active.Load())
	}
}
