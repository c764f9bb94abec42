package redistest

import (
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// StartCluster starts a Redis Cluster of one real server with all slots, and returns a client
// of it. Commands and scripts whose keys are in different slots fail, as on any cluster.
func StartCluster(t *testing.T) redis.UniversalClient {
	t.Helper()
	s := Start(t, "--cluster-enabled", "yes")
	node := s.Client(t)
	if err := node.ClusterAddSlotsRange(t.Context(), 0, 16383).Err(); err != nil {
		t.Fatal(err)
	}
	Until(t, 30*time.Second, "the cluster is complete", func() bool {
		return strings.Contains(node.ClusterInfo(t.Context()).Val(), "cluster_state:ok")
	})
	rdb := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{s.Addr()}})
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}
