package loadtest

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// redisStats holds figures of Redis' INFO at one moment. A field that INFO lacks is -1: the embedded
// Redis reports only the commands.
type redisStats struct {
	version  string
	cluster  bool
	commands int64         // since its start, including those inside scripts
	cpu      time.Duration // since its start
	memory   int64         // bytes
}

func readRedisStats(ctx context.Context, rdb redis.UniversalClient) (redisStats, error) {
	m := redisStats{commands: -1, cpu: -1, memory: -1}
	info, err := rdb.Info(ctx).Result()
	if err != nil {
		if redis.HasErrorPrefix(err, "ERR") { // the server has no INFO
			return m, nil
		}
		return m, fmt.Errorf("read INFO of Redis: %w", err)
	}
	fields := make(map[string]string)
	for line := range strings.Lines(info) {
		if name, value, found := strings.Cut(line, ":"); found {
			fields[name] = strings.TrimSpace(value)
		}
	}
	m.version, m.cluster = fields["redis_version"], fields["cluster_enabled"] == "1"
	if n, err := strconv.ParseInt(fields["total_commands_processed"], 10, 64); err == nil {
		m.commands = n
	}
	if n, err := strconv.ParseInt(fields["used_memory"], 10, 64); err == nil {
		m.memory = n
	}
	user, errUser := strconv.ParseFloat(fields["used_cpu_user"], 64)
	system, errSystem := strconv.ParseFloat(fields["used_cpu_sys"], 64)
	if errUser == nil && errSystem == nil {
		m.cpu = time.Duration((user + system) * float64(time.Second))
	}
	return m, nil
}
