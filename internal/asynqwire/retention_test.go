package asynqwire_test

import (
	"context"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/asynqwire"
	"github.com/wxcourier/wxcourier/internal/redistest"
)

// TestRetentionPrefix: asynq takes the retention before a message as that of its task, unless the
// message has one of its own.
func TestRetentionPrefix(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		client, inspector := asynq.NewClientFromRedisClient(rdb), asynq.NewInspectorFromRedisClient(rdb)
		prefix := asynqwire.RetentionPrefix(10 * time.Minute)
		own := map[string]time.Duration{"none": 0, "long": time.Hour, "short": time.Second}
		for id, retention := range own {
			opts := []asynq.Option{asynq.Queue("q"), asynq.TaskID(id)}
			if retention > 0 {
				opts = append(opts, asynq.Retention(retention))
			}
			if _, err := client.Enqueue(asynq.NewTask("type", []byte("payload of "+id)), opts...); err != nil {
				t.Fatal(err)
			}
			key := asynqwire.TaskKey("q", id)
			message := rdb.HGet(t.Context(), key, "msg").Val()
			if err := rdb.HSet(t.Context(), key, "msg", prefix+message).Err(); err != nil {
				t.Fatal(err)
			}
		}
		own["none"] = 10 * time.Minute
		seen := make(chan string, len(own))
		server := asynq.NewServerFromRedisClient(rdb, asynq.Config{Queues: map[string]int{"q": 1}, LogLevel: asynq.FatalLevel})
		if err := server.Start(asynq.HandlerFunc(func(_ context.Context, task *asynq.Task) error {
			seen <- string(task.Payload())
			return nil
		})); err != nil {
			t.Fatal(err)
		}
		defer server.Shutdown()
		for range own {
			if payload := <-seen; own[payload[len("payload of "):]] == 0 {
				t.Errorf("the payload %q", payload)
			}
		}
		for id, want := range own {
			redistest.Until(t, 10*time.Second, id+" is completed", func() bool {
				info, err := inspector.GetTaskInfo("q", id)
				return err == nil && info.State == asynq.TaskStateCompleted && info.Retention == want && info.ID == id
			})
		}
	})
	for _, d := range []time.Duration{0, -time.Hour, 999 * time.Millisecond} {
		if got := asynqwire.RetentionPrefix(d); got != "" {
			t.Errorf("%v: %q", d, got)
		}
	}
}
