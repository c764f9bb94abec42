package loadtest

import (
	"errors"
	"strings"
	"testing"

	"github.com/wxcourier/wxcourier/configs"
	"github.com/wxcourier/wxcourier/internal/redisinfo"
	"github.com/wxcourier/wxcourier/internal/redistest"
)

func TestFindRedisOrder(t *testing.T) {
	configured := configs.Redis{Addrs: []string{"configured:6379"}, DB: 3}
	for _, tt := range []struct {
		named string
		conf  configs.Redis
		want  configs.Redis
		kind  Kind
	}{
		{"named:6379", configured, configs.Redis{Addrs: []string{"named:6379"}}, Named},
		{"", configured, configured, Configured},
	} {
		target, err := FindRedis(t.Context(), tt.named, tt.conf)
		if err != nil {
			t.Fatal(err)
		}
		if target.Kind != tt.kind || target.ephemeral() || target.Redis.Address() != tt.want.Address() || target.Redis.DB != tt.want.DB {
			t.Errorf("%q: %+v", tt.named, target)
		}
		target.Close()
	}
}

func TestFindRedisErrors(t *testing.T) {
	for named, configured := range map[string]configs.Redis{
		"nowhere": {},
		"":        {Addrs: []string{"a:1", "b:1"}},
	} {
		_, err := FindRedis(t.Context(), named, configured)
		var usage *UsageError
		if !errors.As(err, &usage) || !strings.Contains(err.Error(), "--redis") {
			t.Errorf("%q: %v", named, err)
		}
	}
}

// TestRedisWithoutInfo: a server that has no INFO reports nothing, which is no error.
func TestRedisWithoutInfo(t *testing.T) {
	rdb := redistest.Start(t, "--rename-command", "INFO", "").Client(t)
	if info, err := readInfo(t.Context(), rdb); err != nil || len(info) != 0 {
		t.Errorf("%v, %v", info, err)
	}
}

// TestFindRedisFallsBack: without a redis-server on the PATH the embedded Redis is used.
func TestFindRedisFallsBack(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	target, err := FindRedis(t.Context(), "", configs.Redis{})
	if err != nil {
		t.Fatal(err)
	}
	defer target.Close()
	rdb := target.Redis.NewClient()
	defer func() { _ = rdb.Close() }()
	if target.Kind != Embedded || !target.ephemeral() || rdb.Ping(t.Context()).Err() != nil {
		t.Errorf("%+v", target)
	}
	info, err := readInfo(t.Context(), rdb)
	if err != nil {
		t.Fatal(err)
	}
	if memory, ok := info.Int(redisinfo.Memory); ok {
		t.Errorf("it reports a memory of %d bytes", memory)
	}
	if cpu, ok := info.CPU(); ok {
		t.Errorf("it reports a CPU time of %v", cpu)
	}
}
