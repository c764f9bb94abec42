package api

import "time"

// SetStreamTimes replaces the times of the streams of results.
func (a *API) SetStreamTimes(heartbeat, slow, life, newApps time.Duration) {
	a.streamTimes = streamTimes{heartbeat: heartbeat, slow: slow, life: life, newApps: newApps}
}

// Streams returns the number of subscriptions to results.
func (a *API) Streams() int { return a.resultFollower.Subscriptions() }
