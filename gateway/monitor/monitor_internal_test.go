package monitor

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/hibiken/asynq"
	"github.com/hibiken/asynqmon"
	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/redistest"
)

// TestPatches: each patch still applies to asynqmon's script.
func TestPatches(t *testing.T) {
	_, rdb := redistest.Mini(t)
	original := asynqmon.New(asynqmon.Options{RootPath: Root, RedisConnOpt: asynq.RedisClientOpt{Addr: rdb.(*redis.Client).Options().Addr}})
	defer func() { _ = original.Close() }()
	x, err := newIndex(original, &assets{source: original}, false)
	if err != nil {
		t.Fatal(err)
	}
	page := string(x.pages[english])
	_, main, _ := strings.Cut(page, "/monitor/static/js/main.")
	main, _, ok := strings.Cut(main, "?v=")
	if !ok {
		t.Fatal(page)
	}
	answer := httptest.NewRecorder()
	original.ServeHTTP(answer, &http.Request{Method: http.MethodGet, URL: &url.URL{Path: "/monitor/static/js/main." + main}})
	for _, p := range patches() {
		if !bytes.Contains(answer.Body.Bytes(), []byte(p.old)) {
			t.Errorf("%s is not in main.%s (%s)", p.old, main, p.reason)
		}
	}
	if len(page) > 4096 || !strings.Contains(page, "?v=") || !strings.Contains(page, "wxc-bar") {
		t.Errorf("%d bytes:\n%s", len(page), page)
	}
}

// TestMemoryUsageScript: the hook knows asynq's script by its text and by its hash.
func TestMemoryUsageScript(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		seen := &sightings{}
		rdb.AddHook(seen)
		client, inspector := asynq.NewClientFromRedisClient(rdb), asynq.NewInspectorFromRedisClient(rdb)
		if _, err := client.Enqueue(asynq.NewTask("x", nil), asynq.Queue("q")); err != nil {
			t.Fatal(err)
		}
		if _, err := inspector.GetQueueInfo("q"); err != nil {
			t.Log(err) // miniredis has no MEMORY
		}
		if seen.text == 0 || seen.hash == 0 {
			t.Errorf("%+v", seen)
		}
	})
}

// sightings counts the commands that the hook takes for asynq's script.
type sightings struct {
	tolerantHook
	text, hash int
}

func (s *sightings) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if asksMemoryUsage(cmd) && cmd.Name() == "eval" {
			s.text++
		} else if asksMemoryUsage(cmd) {
			s.hash++
		}
		return next(ctx, cmd)
	}
}
