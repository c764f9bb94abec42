package loadtest

import (
	"errors"
	"strings"
	"testing"

	"github.com/wxcourier/wxcourier/configs"
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
	m, err := readRedisStats(t.Context(), rdb)
	if err != nil || m.memory != -1 || m.cpu != -1 {
		t.Errorf("its figures: %+v, %v", m, err)
	}
}

func TestServerClose(t *testing.T) {
	server, err := StartServer(t.Context())
	if errors.Is(err, ErrNoServer) {
		t.Skip("skipped: redis-server is not installed")
	}
	if err != nil {
		t.Fatal(err)
	}
	rdb := (configs.Redis{Addrs: []string{server.Addr}}).NewClient()
	defer func() { _ = rdb.Close() }()
	m, err := readRedisStats(t.Context(), rdb)
	if err != nil || m.commands <= 0 || m.cpu <= 0 || m.memory <= 0 || m.version == "" || m.cluster {
		t.Errorf("its figures: %+v, %v", m, err)
	}
	server.Close()
	if err := rdb.Ping(t.Context()).Err(); err == nil {
		t.Error("the server still answers")
	}
}
