package loadtest

import (
	"errors"
	"strings"
	"testing"

	"github.com/wxcourier/wxcourier/configs"
)

func TestFindPrefersWhatIsNamed(t *testing.T) {
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
		place, err := FindRedis(t.Context(), tt.named, tt.conf)
		if err != nil {
			t.Fatal(err)
		}
		if place.Kind != tt.kind || place.ephemeral() || place.Redis.Address() != tt.want.Address() || place.Redis.DB != tt.want.DB {
			t.Errorf("%q: %+v", tt.named, place)
		}
		place.Close()
	}
}

func TestFindRefuses(t *testing.T) {
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

// TestFindFallsBack: a path without redis-server leaves the embedded Redis.
func TestFindFallsBack(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	place, err := FindRedis(t.Context(), "", configs.Redis{})
	if err != nil {
		t.Fatal(err)
	}
	defer place.Close()
	rdb := place.Redis.NewClient()
	defer func() { _ = rdb.Close() }()
	if place.Kind != Embedded || !place.ephemeral() || rdb.Ping(t.Context()).Err() != nil {
		t.Errorf("%+v", place)
	}
	m, err := readRedisStats(t.Context(), rdb)
	if err != nil || m.memory != -1 || m.cpu != -1 {
		t.Errorf("its figures: %+v, %v", m, err)
	}
}

func TestServerEndsWithItsData(t *testing.T) {
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
		t.Error("it still answers")
	}
}
