package ratelimit

import (
	"context"
	_ "embed" // the scripts
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// The scripts. The head of each file documents its keys, arguments and reply.
var (
	//go:embed take.lua
	takeSource string
	//go:embed giveback.lua
	giveBackSource string
	//go:embed usage.lua
	usageSource string
	//go:embed feedback.lua
	feedbackSource string
	//go:embed learn.lua
	learnSource string
	//go:embed lowered.lua
	loweredSource string

	takeScript     = redis.NewScript(takeSource)
	giveBackScript = redis.NewScript(giveBackSource)
	usageScript    = redis.NewScript(usageSource)
	feedbackScript = redis.NewScript(feedbackSource)
	learnScript    = redis.NewScript(learnSource)
	loweredScript  = redis.NewScript(loweredSource)
)

// stateKey is the key of a row's counts (a hash), logKey that of its minute's log (a list), and
// activeKey that of the lanes that share it (a sorted set). All are private, and share the
// app's hash tag.
func stateKey(app, row string) string  { return "wxcourier:{" + app + "}:pace:" + row }
func logKey(app, row string) string    { return stateKey(app, row) + ":log" }
func activeKey(app, row string) string { return stateKey(app, row) + ":active" }

// keys returns the given keys, followed by the three keys of each row of the plan.
func (p plan) keys(before ...string) []string {
	keys := before
	for _, r := range p.rows {
		keys = append(keys, stateKey(p.app, r.name), logKey(p.app, r.name), activeKey(p.app, r.name))
	}
	return keys
}

// noRetryCmd is a command that go-redis does not send again when its reply is lost.
type noRetryCmd struct{ *redis.Cmd }

// NoRetry prevents retries by go-redis: giving back twice could exceed a limit.
func (noRetryCmd) NoRetry() bool { return true }

// runOnce runs the give-back script at most once. After NOSCRIPT it has not run, and is sent in
// full.
func (l *Limiter) runOnce(ctx context.Context, keys []string, args []any) error {
	send := func(name, script string) error {
		line := make([]any, 0, 3+len(keys)+len(args))
		line = append(line, name, script, len(keys))
		for _, k := range keys {
			line = append(line, k)
		}
		return l.rdb.Process(ctx, noRetryCmd{redis.NewCmd(ctx, append(line, args...)...)})
	}
	err := send("evalsha", giveBackScript.Hash())
	if redis.HasErrorPrefix(err, "NOSCRIPT") {
		err = send("eval", giveBackSource)
	}
	return err
}

// integers decodes a reply of integers.
func integers(reply []any) ([]int64, error) {
	nums := make([]int64, len(reply))
	for i, v := range reply {
		n, ok := v.(int64)
		if !ok {
			return nil, fmt.Errorf("script reply: %T where a number was expected", v)
		}
		nums[i] = n
	}
	return nums, nil
}

// parseLogEntry parses an entry "bucket:count" of a minute's log.
func parseLogEntry(s string) (b, n int64, err error) {
	left, right, _ := strings.Cut(s, ":")
	if b, err = strconv.ParseInt(left, 10, 64); err != nil {
		return 0, 0, fmt.Errorf("minute's log: %w", err)
	}
	if n, err = strconv.ParseInt(right, 10, 64); err != nil {
		return 0, 0, fmt.Errorf("minute's log: %w", err)
	}
	return b, n, nil
}
