package asynqwire

import (
	"slices"

	"github.com/redis/go-redis/v9"
)

// asynq's commands are recognized by their keys and not by the hashes of the scripts, which
// may change with the next release of asynq.

// firstKey is the index of a script's first key in a command: evalsha HASH COUNT KEY ….
const firstKey = 3

// IsScript reports whether a command calls a script.
func IsScript(cmd redis.Cmder) bool { return cmd.Name() == "evalsha" || cmd.Name() == "eval" }

// ParseScript returns the queue of a script call of asynq, and the name of its first key; ok
// is false for other commands.
func ParseScript(cmd redis.Cmder) (queue, key string, ok bool) {
	args := cmd.Args()
	if len(args) < firstKey+2 || !IsScript(cmd) {
		return "", "", false
	}
	first, _ := args[firstKey].(string)
	return ParseKey(first)
}

// IsDequeue reports whether a script call is asynq's dequeue from a queue. The keys of that
// script are pending, paused, active, lease.
func IsDequeue(cmd redis.Cmder, queue string) bool {
	args := cmd.Args()
	return len(args) >= firstKey+4 && args[firstKey] == Key(queue, Pending) && args[firstKey+1] == Key(queue, Paused)
}

// ParseExtendLeases returns the queue of asynq's command that extends leases (ZADD key XX
// time id …); ok is false for other commands.
func ParseExtendLeases(cmd redis.Cmder) (queue string, ok bool) {
	args := cmd.Args()
	if len(args) < 5 || cmd.Name() != "zadd" || args[2] != "xx" {
		return "", false
	}
	key, _ := args[1].(string)
	queue, name, ok := ParseKey(key)
	return queue, ok && name == Lease
}

// ReplaceQueue returns the arguments of a script call with the keys of queue from replaced by
// those of queue to.
func ReplaceQueue(args []any, from, to string) []any {
	replaced := slices.Clone(args)
	for i := firstKey; i < len(args); i++ {
		text, _ := args[i].(string)
		if queue, name, ok := ParseKey(text); ok && queue == from {
			replaced[i] = Key(to, name)
		}
	}
	return replaced
}
