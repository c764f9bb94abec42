package asynqwire_test

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/asynqwire"
)

// TestLayout: asynq writes the keys of this package.
func TestLayout(t *testing.T) {
	rdb := redis.NewClient(&redis.Options{Addr: miniredis.RunT(t).Addr()})
	t.Cleanup(func() { _ = rdb.Close() })
	client, inspector := asynq.NewClientFromRedisClient(rdb), asynq.NewInspectorFromRedisClient(rdb)
	enqueue := func(id string, opts ...asynq.Option) {
		t.Helper()
		if _, err := client.Enqueue(asynq.NewTask("type", nil), append(opts, asynq.Queue("q"), asynq.TaskID(id))...); err != nil {
			t.Fatal(err)
		}
	}
	enqueue("a")
	enqueue("b", asynq.ProcessIn(time.Hour))
	enqueue("c")
	if err := inspector.ArchiveTask("q", "c"); err != nil {
		t.Fatal(err)
	}
	if err := inspector.PauseQueue("q"); err != nil {
		t.Fatal(err)
	}
	want := []string{
		asynqwire.Queues, asynqwire.Key("q", asynqwire.Pending), asynqwire.Key("q", asynqwire.Scheduled),
		asynqwire.Key("q", asynqwire.Archived), asynqwire.Key("q", asynqwire.Paused),
		asynqwire.TaskKey("q", "a"), asynqwire.TaskKey("q", "b"), asynqwire.TaskKey("q", "c"),
	}
	got := rdb.Keys(t.Context(), "*").Val()
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("asynq wrote\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestServerKeyPrefix: an asynq server of this process has a key with that beginning.
func TestServerKeyPrefix(t *testing.T) {
	rdb := redis.NewClient(&redis.Options{Addr: miniredis.RunT(t).Addr()})
	t.Cleanup(func() { _ = rdb.Close() })
	server := asynq.NewServerFromRedisClient(rdb, asynq.Config{LogLevel: asynq.FatalLevel})
	if err := server.Start(asynq.NewServeMux()); err != nil {
		t.Fatal(err)
	}
	defer server.Shutdown()
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for _, set := range []string{asynqwire.Servers, asynqwire.Workers} {
		var keys []string
		for range 500 { // the server registers itself in the background
			if keys = rdb.ZRange(t.Context(), set, 0, -1).Val(); len(keys) > 0 {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		if want := asynqwire.ServerKeyPrefix(set, host, os.Getpid()); len(keys) != 1 || !strings.HasPrefix(keys[0], want) {
			t.Errorf("%s has %q, want one key that begins with %s", set, keys, want)
		}
	}
}

func TestParseKey(t *testing.T) {
	for _, tt := range []struct {
		key, queue, name string
		ok               bool
	}{
		{asynqwire.Key("q", asynqwire.Lease), "q", "lease", true},
		{asynqwire.TaskKey("a:b:bulk", "a:1"), "a:b:bulk", "t:a:1", true},
		{asynqwire.Queues, "", "", false},
		{"wxcourier:{q}:lease", "", "", false},
	} {
		queue, name, ok := asynqwire.ParseKey(tt.key)
		if ok != tt.ok || ok && (queue != tt.queue || name != tt.name) {
			t.Errorf("ParseKey(%q) = %q, %q, %v", tt.key, queue, name, ok)
		}
	}
}
