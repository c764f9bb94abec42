// Package heartbeat keeps the list of running replicas, workers and gateways, in Redis: each replica
// writes an entry every few seconds, and removes it when it stops. Only a replica that does not beat
// any more, since it was killed or cannot reach Redis, keeps an entry that grows old.
//
//	heartbeat.NewBeater(rdb, heartbeat.Worker, id, load, log).Run(ctx, stopping)
//	replicas, err := heartbeat.List(ctx, rdb)
package heartbeat

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// key is a hash of all replicas: by their ids the time of the last beat, in ms since 1970, a blank,
// and the entry as JSON. It expires with the last entry.
const key = "wxcourier:replicas"

const (
	// Every is the interval of a replica's beats: one script call each.
	Every = 15 * time.Second
	// lostAfter is the age of the last beat from which a replica counts as lost.
	lostAfter = 40 * time.Second
	// keep is how long a lost replica stays in the list.
	keep = 10 * time.Minute
)

// Kind is what a replica is.
type Kind string

// The kinds.
const (
	Worker  Kind = "worker"
	Gateway Kind = "gateway"
)

// Replica is an entry of the list.
type Replica struct {
	ID       string    `json:"id"`
	Kind     Kind      `json:"kind"` // in Redis none is a worker, of a version that knew no other
	Host     string    `json:"host"`
	PID      int       `json:"pid"`
	Version  string    `json:"version"`
	Started  time.Time `json:"started"`
	Apps     int       `json:"apps"`   // that it serves
	Lanes    int       `json:"lanes"`  // of a worker, that are open: they have, or just had, work
	Active   int       `json:"active"` // of a worker: tasks in flight
	Stopping bool      `json:"stopping,omitempty"`

	// Configuration is nil where the replica does not read its configuration again.
	Configuration *Configuration `json:"configuration,omitempty"`

	// Seen is the time of the last beat, by Redis' clock, and Lost reports whether it is too long
	// ago. List sets them.
	Seen time.Time `json:"seen,omitzero"`
	Lost bool      `json:"lost,omitempty"`
}

// Configuration describes the configuration of a replica, without any value of it.
type Configuration struct {
	Hash    string    `json:"hash"`              // of the one in use; replicas with the same hash have the same
	Read    time.Time `json:"read"`              // when it was taken over
	Refused time.Time `json:"refused,omitzero"`  // since when a newer one is refused for its mistakes
	Restart []string  `json:"restart,omitempty"` // the changed keys that need a restart
}

// beat writes an entry, and removes those of replicas that were lost long ago.
//
// KEYS[1] the list. ARGV[1] id, ARGV[2] entry, ARGV[3] ms for which a lost replica is kept
var beat = redis.NewScript(`
local t = redis.call("TIME")
local now = t[1] * 1000 + math.floor(t[2] / 1000)
redis.call("HSET", KEYS[1], ARGV[1], string.format("%.0f", now) .. " " .. ARGV[2])
local all = redis.call("HGETALL", KEYS[1])
for i = 1, #all, 2 do
	local seen = tonumber(string.match(all[i + 1], "^(%d+) ") or "")
	if not seen or now - seen > tonumber(ARGV[3]) then redis.call("HDEL", KEYS[1], all[i]) end
end
redis.call("PEXPIRE", KEYS[1], ARGV[3])
return 1
`)

// Beat writes the entry of a replica.
func Beat(ctx context.Context, rdb redis.Scripter, r Replica) error {
	entry, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode the heartbeat: %w", err)
	}
	if err := beat.Run(ctx, rdb, []string{key}, r.ID, entry, keep.Milliseconds()).Err(); err != nil {
		return fmt.Errorf("write the heartbeat: %w", err)
	}
	return nil
}

// Remove removes a replica that stops.
func Remove(ctx context.Context, rdb redis.Cmdable, id string) error {
	if err := rdb.HDel(ctx, key, id).Err(); err != nil {
		return fmt.Errorf("remove the heartbeat: %w", err)
	}
	return nil
}

// List returns the running replicas, and those that were lost in the last minutes, sorted by host
// and start. It takes one round trip. The list is not nil.
func List(ctx context.Context, rdb redis.UniversalClient) ([]Replica, error) {
	var now *redis.TimeCmd
	var entries *redis.MapStringStringCmd
	_, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		now, entries = p.Time(ctx), p.HGetAll(ctx, key)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list the replicas: %w", err)
	}
	replicas := []Replica{}
	for _, entry := range entries.Val() {
		ms, text, _ := strings.Cut(entry, " ")
		seen, err := strconv.ParseInt(ms, 10, 64)
		var r Replica
		if err != nil || json.Unmarshal([]byte(text), &r) != nil {
			continue // of a version that writes another format
		}
		r.Seen, r.Kind = time.UnixMilli(seen), cmp.Or(r.Kind, Worker)
		age := now.Val().Sub(r.Seen)
		if r.Lost = age >= lostAfter; age < keep {
			replicas = append(replicas, r)
		}
	}
	slices.SortFunc(replicas, func(a, b Replica) int {
		return cmp.Or(cmp.Compare(a.Host, b.Host), a.Started.Compare(b.Started), cmp.Compare(a.ID, b.ID))
	})
	return replicas, nil
}
