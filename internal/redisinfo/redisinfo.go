// Package redisinfo reads the figures that Redis reports about itself with INFO.
//
//	before, err := redisinfo.Read(ctx, rdb)
//	…
//	after, err := redisinfo.Read(ctx, rdb)
//	commands, ok := after.Since(before, redisinfo.Commands)
//
// Each reading is itself one command.
package redisinfo

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// Info holds the fields of a reply to INFO. A server need not report all fields: the embedded Redis
// reports few.
type Info map[string]string

// Fields of Info.
const (
	Version     = "redis_version"
	Cluster     = "cluster_enabled"          // "1" on a node of a cluster
	Commands    = "total_commands_processed" // since the start, including those inside scripts
	Memory      = "used_memory"              // bytes
	Connections = "connected_clients"
)

// Read reads some sections of INFO, such as "stats"; without any, Redis' default ones.
func Read(ctx context.Context, rdb redis.Cmdable, sections ...string) (Info, error) {
	text, err := rdb.Info(ctx, sections...).Result()
	if err != nil {
		return nil, fmt.Errorf("read INFO of Redis: %w", err)
	}
	info := make(Info)
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			info[name] = value
		}
	}
	return info, nil
}

// Int returns a field that is a whole number; ok is false when the server does not report it.
func (i Info) Int(field string) (n int64, ok bool) {
	n, err := strconv.ParseInt(i[field], 10, 64)
	return n, err == nil
}

// Since returns the growth of a field since an earlier reading; ok is false when one of the two has
// no such number.
func (i Info) Since(before Info, field string) (n int64, ok bool) {
	from, okBefore := before.Int(field)
	to, ok := i.Int(field)
	return to - from, ok && okBefore
}

// CPU returns the server's CPU time since its start; ok is false when it does not report it.
func (i Info) CPU() (d time.Duration, ok bool) {
	user, errUser := strconv.ParseFloat(i["used_cpu_user"], 64)
	system, errSystem := strconv.ParseFloat(i["used_cpu_sys"], 64)
	return time.Duration((user + system) * float64(time.Second)), errUser == nil && errSystem == nil
}

// Calls returns the number of calls of each command since the server's start, including those inside
// scripts. It needs the section "commandstats".
func (i Info) Calls() map[string]int64 {
	calls := make(map[string]int64)
	for field, value := range i {
		command, ok := strings.CutPrefix(field, "cmdstat_")
		if !ok {
			continue
		}
		count, _, _ := strings.Cut(strings.TrimPrefix(value, "calls="), ",")
		if n, err := strconv.ParseInt(count, 10, 64); err == nil {
			calls[command] = n
		}
	}
	return calls
}
