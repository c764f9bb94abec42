package redistest_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/redistest"
)

func TestEach(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		if err := rdb.Set(t.Context(), "k", "v", 0).Err(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestRestartKeepsAppendOnlyData(t *testing.T) {
	s := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
	rdb := s.Client(t)
	if err := rdb.Set(t.Context(), "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	s.Kill()
	s.Restart()
	if v, err := rdb.Get(t.Context(), "k").Result(); err != nil || v != "v" {
		t.Fatalf("after a restart: %q, %v", v, err)
	}
}

func TestPowerCutLosesWhatCameLater(t *testing.T) {
	s := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "everysec", "--auto-aof-rewrite-percentage", "0")
	rdb := s.Client(t)
	set := func(key string) {
		t.Helper()
		if err := rdb.Set(t.Context(), key, "v", 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	set("kept")
	written := s.Written()
	set("lost")
	s.PowerCut(written)
	s.Restart()
	if n := rdb.Exists(t.Context(), "kept").Val(); n != 1 {
		t.Error("a key that was on the disk is gone")
	}
	if n := rdb.Exists(t.Context(), "lost").Val(); n != 0 {
		t.Error("a key that was not on the disk is there")
	}
}

func TestFailoverPromotesTheReplica(t *testing.T) {
	f := redistest.StartFailover(t)
	rdb := redis.NewFailoverClient(&redis.FailoverOptions{MasterName: redistest.MasterName, SentinelAddrs: []string{f.Sentinel.Addr()}})
	defer func() { _ = rdb.Close() }()
	if err := rdb.Set(t.Context(), "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	f.WaitSynced()
	f.Master.Kill()
	redistest.Until(t, 30*time.Second, "the replica is the master", func() bool { return rdb.Set(t.Context(), "k2", "v", 0).Err() == nil })
	if v := rdb.Get(t.Context(), "k").Val(); v != "v" {
		t.Errorf("after the failover: %q", v)
	}
}

func TestClusterTakesEverySlot(t *testing.T) {
	var addrs []string
	for _, node := range redistest.StartMasters(t) {
		addrs = append(addrs, node.Addr())
	}
	rdb := redis.NewClusterClient(&redis.ClusterOptions{Addrs: addrs})
	defer func() { _ = rdb.Close() }()
	for i := range 50 {
		if err := rdb.Set(t.Context(), fmt.Sprint("key", i), "v", 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
}
