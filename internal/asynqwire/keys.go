// Package asynqwire defines asynq's layout in Redis: the keys, the scripts of ours that change
// them, and how asynq's own commands are recognized. No other package builds a key of asynq.
//
// asynq does not document the layout, but asynqmon and the processes of a rolling update
// depend on it, and it has not changed since version 0.18. TestLayout checks it against the
// asynq of go.mod.
//
// [Enqueuer] enqueues many tasks at once by the commands of asynq's own client.
package asynqwire

import (
	"strconv"
	"strings"
)

// Keys that belong to no queue.
const (
	Queues        = "asynq:queues"  // set: the names of all queues
	Servers       = "asynq:servers" // sorted set: the keys of the servers by expiry, s since 1970
	Workers       = "asynq:workers" // sorted set: the keys of the servers' workers, likewise
	CancelChannel = "asynq:cancel"  // Pub/Sub: ids of tasks whose runs are to be canceled
)

// The keys of a queue, without its prefix.
const (
	Pending   = "pending"   // list of task ids; the tail is dequeued first
	Active    = "active"    // list of task ids
	Lease     = "lease"     // sorted set: active tasks by the end of their lease, s since 1970
	Scheduled = "scheduled" // sorted set: tasks by the time at which they become pending, s since 1970
	Retry     = "retry"     // sorted set, likewise
	Archived  = "archived"  // sorted set: tasks by the time of archiving, s since 1970
	Completed = "completed" // sorted set: tasks by the end of their retention, s since 1970
	Paused    = "paused"    // string: the queue is not dequeued while the key exists
)

// Key returns a key of a queue: Key("q", Pending) is "asynq:{q}:pending".
func Key(queue, name string) string { return prefix(queue) + name }

// TaskKey returns the key of a task, a hash with its message and state. id is asynq's id.
func TaskKey(queue, id string) string { return prefix(queue) + taskPrefix + id }

// PendingSince is the field of a task's hash that says since when the task is pending, ns since
// 1970. asynq deletes it when the task is dequeued.
const PendingSince = "pending_since"

const (
	taskPrefix = "t:"
	tagBegin   = "asynq:{"
	tagEnd     = "}:"
)

func prefix(queue string) string { return tagBegin + queue + tagEnd }

// ParseKey returns the queue and the name of a key; ok is false for a key of another form.
func ParseKey(key string) (queue, name string, ok bool) {
	key, ok = strings.CutPrefix(key, tagBegin)
	if !ok {
		return "", "", false
	}
	return strings.Cut(key, tagEnd)
}

// KeyPattern returns the pattern, for SCAN, of the keys of all queues whose names begin with a
// prefix. The prefix must contain none of the pattern's special characters.
func KeyPattern(queuePrefix string) string { return tagBegin + queuePrefix + "*" }

// ServerKeyPrefix returns the beginning of the keys that the asynq servers of a process have in a
// set, Servers or Workers.
func ServerKeyPrefix(set, host string, pid int) string {
	return set + ":{" + host + ":" + strconv.Itoa(pid) + ":"
}
