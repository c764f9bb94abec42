package asynqwire

import (
	"testing"

	"github.com/redis/go-redis/v9"
)

// TestIsDequeue: asynq's dequeue is recognized, and other commands are not.
func TestIsDequeue(t *testing.T) {
	dequeue := func(name string, keys ...any) redis.Cmder {
		return redis.NewCmd(t.Context(), append([]any{name, "sha", len(keys)}, append(keys, "1764000000", "asynq:{q}:t:")...)...)
	}
	const q = "wx0123456789abcdef:send:subscribe"
	keys := []any{"asynq:{" + q + "}:pending", "asynq:{" + q + "}:paused", "asynq:{" + q + "}:active", "asynq:{" + q + "}:lease"}
	for _, name := range []string{"evalsha", "eval"} {
		cmd := dequeue(name, keys...)
		if got, key, ok := ParseScript(cmd); !ok || got != q || key != "pending" || !IsDequeue(cmd, got) {
			t.Errorf("asynq's dequeue by %s: %q, %q, %v", name, got, key, ok)
		}
	}
	for _, other := range []redis.Cmder{
		dequeue("evalsha", "asynq:{q}:active", "asynq:{q}:lease", "asynq:{q}:t:1"),
		dequeue("evalsha", "wxcourier:{q}:task:1"),
		redis.NewCmd(t.Context(), "get", "asynq:{q}:pending"),
		redis.NewCmd(t.Context(), "ping"),
	} {
		if got, _, ok := ParseScript(other); ok && IsDequeue(other, got) {
			t.Errorf("recognized as a dequeue: %v", other)
		}
	}
}
