package monitor

import (
	"context"
	"errors"
	"net"
	"strings"

	"github.com/redis/go-redis/v9"
)

// memoryUsageSHA is the hash of asynq's script that samples the memory of a queue.
const memoryUsageSHA = "0c80fc1868e3aae205155ae2017ce995a3a7cec0"

// tolerantHook shows a queue's memory as 0 where Redis does not tell it: some hosted ones forbid
// MEMORY USAGE in scripts, and asynq's script fails when a task is deleted under it. Without the hook
// all pages of queues would be answered with status 500.
type tolerantHook struct{}

// DialHook implements redis.Hook.
func (tolerantHook) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

// ProcessPipelineHook implements redis.Hook.
func (tolerantHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error { return next(ctx, cmds) }
}

// ProcessHook implements redis.Hook.
func (tolerantHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		var refused redis.Error // an answer of Redis, not a broken connection
		reply, script := cmd.(*redis.Cmd)
		if err == nil || !script || !errors.As(err, &refused) || redis.HasErrorPrefix(err, "NOSCRIPT") || !asksMemoryUsage(cmd) {
			return err
		}
		reply.SetErr(nil)
		reply.SetVal(int64(0))
		return nil
	}
}

// asksMemoryUsage reports whether a command is asynq's script that samples the memory of a queue.
func asksMemoryUsage(cmd redis.Cmder) bool {
	args := cmd.Args()
	if len(args) < 2 {
		return false
	}
	script, _ := args[1].(string)
	switch cmd.Name() {
	case "evalsha":
		return script == memoryUsageSHA
	case "eval":
		return strings.Contains(script, `redis.call("MEMORY", "USAGE"`)
	}
	return false
}
