package chaos

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/configs"
	"github.com/wxcourier/wxcourier/internal/redistest"
)

// replicationLag is the maximum lag of the replica when its master is killed. On one machine it is
// milliseconds, plus the time that the processes wait for the CPU.
const replicationLag = time.Second

// TestFailover: the master of a Redis with a replica and a sentinel is killed. The replica becomes the
// master, the workers find it through the sentinel, and every task has one outcome. Unreplicated
// writes are lost: only messages sent in that moment may arrive twice.
func TestFailover(t *testing.T) {
	t.Parallel()
	n := size(t, 300, 10)
	pair := redistest.StartFailover(t, "--appendonly", "yes", "--appendfsync", "everysec")
	w := newWorld(t, settings{
		redis: configs.Redis{Addrs: []string{pair.Sentinel.Addr()}, MasterName: redistest.MasterName},
		tasks: n, limits: limitsFor(n, sendSeconds(n, 50)),
	})
	w.injectFaults()
	all, file := w.mixed(n)
	w.enqueue(file)
	pair.WaitSynced() // acknowledged tasks are on both
	fleet := w.fleet(2)
	redistest.Until(t, time.Minute, "half of the calls were made", func() bool { return w.sends() > n/2 })

	killed := time.Now()
	pair.Master.Kill()
	redistest.Until(t, time.Minute, "the replica is the master", func() bool {
		return w.rdb.Set(t.Context(), "chaos:probe", "v", time.Minute).Err() == nil
	})
	w.faults.add(fault{what: "Redis failed over, and lost unreplicated writes", from: killed.Add(-replicationLag), to: time.Now()})
	t.Logf("Redis was unavailable for %v", time.Since(killed).Round(10*time.Millisecond))
	pair.WaitFinished()
	pair.Master.Restart() // the sentinel makes it a replica within about ten seconds

	w.settle(fleet, n, 5*time.Minute)
	fleet.stop()
	old := pair.Master.Client(t)
	redistest.Until(t, 2*time.Minute, "the old master follows the new one", func() bool {
		return redis.HasErrorPrefix(old.Set(t.Context(), "chaos:probe", "v", time.Minute).Err(), "READONLY")
	})
	a := w.audit(all)
	a.duplicatesWithin(killed.Add(-replicationLag), killed)
	a.unknownsWereInFlight()
}
