package redistest

import (
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/wxcourier/wxcourier/internal/redisinfo"
	"github.com/wxcourier/wxcourier/internal/redisserver"
)

// Failover is a master with one replica, and a sentinel that promotes the replica when the
// master is down. One sentinel is enough to test a failover.
type Failover struct {
	Master, Replica *Server
	Sentinel        *Server
}

// MasterName is the sentinel's name of the master.
const MasterName = "wxcourier"

// StartFailover starts a master, its replica and a sentinel; args are options of master and
// replica. It returns when the replica is connected to the master and known to the sentinel.
func StartFailover(t *testing.T, args ...string) *Failover {
	t.Helper()
	master := Start(t, append([]string{"--repl-diskless-sync-delay", "0"}, args...)...)
	_, port, _ := net.SplitHostPort(master.Addr())
	replica := Start(t, append([]string{"--replicaof", "127.0.0.1", port}, args...)...)
	rdb := replica.Client(t)
	Until(t, 20*time.Second, "the replica follows its master", func() bool {
		info, err := redisinfo.Read(t.Context(), rdb, "replication")
		return err == nil && info["master_link_status"] == "up"
	})
	sentinel := start(t, redisserver.Config{Sentinel: []string{
		"sentinel monitor " + MasterName + " 127.0.0.1 " + port + " 1",
		"sentinel down-after-milliseconds " + MasterName + " 1000",
		"sentinel failover-timeout " + MasterName + " 3000",
	}})
	f := &Failover{Master: master, Replica: replica, Sentinel: sentinel}
	client := redis.NewSentinelClient(&redis.Options{Addr: sentinel.Addr()})
	t.Cleanup(func() { _ = client.Close() })
	Until(t, 20*time.Second, "the sentinel knows the replica", func() bool {
		known, err := client.Replicas(t.Context(), MasterName).Result()
		return err == nil && len(known) == 1
	})
	return f
}

// WaitSynced waits until the replica has everything that the master had at the time of the call.
func (f *Failover) WaitSynced() {
	t := f.Master.t
	t.Helper()
	offset := func(rdb redis.UniversalClient, field string) int64 {
		info, _ := redisinfo.Read(t.Context(), rdb, "replication")
		n, _ := info.Int(field)
		return n
	}
	wanted, replica := offset(f.Master.Client(t), "master_repl_offset"), f.Replica.Client(t)
	Until(t, 10*time.Second, "the replica has caught up", func() bool { return offset(replica, "slave_repl_offset") >= wanted })
}

// WaitFinished waits until the sentinel has finished a failover. Do not restart the old master
// earlier: it may then stay master.
func (f *Failover) WaitFinished() {
	t := f.Master.t
	t.Helper()
	client := redis.NewSentinelClient(&redis.Options{Addr: f.Sentinel.Addr()})
	defer func() { _ = client.Close() }()
	_, port, _ := net.SplitHostPort(f.Replica.Addr())
	Until(t, time.Minute, "the failover is finished", func() bool {
		master := client.Master(t.Context(), MasterName).Val()
		return master["port"] == port && master["flags"] == "master" && master["role-reported"] == "master"
	})
}

// StartMasters starts a cluster of three masters, which divide the slots among them.
func StartMasters(t *testing.T, args ...string) []*Server {
	t.Helper()
	const masters, slots = 3, 16384
	nodes := make([]*Server, masters)
	buses := make([]string, masters)
	for i := range nodes {
		buses[i] = freePort(t)
		nodes[i] = Start(t, append([]string{
			"--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf", "--cluster-port", buses[i],
		}, args...)...)
	}
	for i, node := range nodes {
		rdb := node.Client(t)
		steps := []error{
			rdb.Do(t.Context(), "cluster", "set-config-epoch", i+1).Err(),
			rdb.ClusterAddSlotsRange(t.Context(), i*slots/masters, (i+1)*slots/masters-1).Err(),
		}
		for j, other := range nodes[:i] {
			host, port, _ := net.SplitHostPort(other.Addr())
			steps = append(steps, rdb.Do(t.Context(), "cluster", "meet", host, port, buses[j]).Err())
		}
		for _, err := range steps {
			if err != nil {
				t.Fatalf("build the cluster: %v", err)
			}
		}
	}
	for _, node := range nodes {
		rdb := node.Client(t)
		Until(t, 30*time.Second, "the cluster is complete", func() bool {
			info := rdb.ClusterInfo(t.Context()).Val()
			return strings.Contains(info, "cluster_state:ok") && strings.Contains(info, "cluster_known_nodes:"+strconv.Itoa(masters))
		})
	}
	return nodes
}
