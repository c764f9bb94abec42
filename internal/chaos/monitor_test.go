package chaos

import (
	"testing"
	"time"

	"github.com/wxcourier/wxcourier/configs"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/tasks"
)

// pressEvery is the interval between two presses.
const pressEvery = 40 * time.Millisecond

// TestEveryButtonAtRandom presses the buttons of asynqmon at random, hundreds of times, while
// producers enqueue (some tasks twice), replicas are killed, and WeChat is busy and breaks
// connections. After all queues are resumed, every task has one outcome, and "wxcourier check
// --repair" has ended deleted tasks as canceled. No message was sent twice, tasks that ended as
// unknown were in flight during a fault, every replica is ready, and no log has a panic or a secret.
func TestEveryButtonAtRandom(t *testing.T) {
	t.Parallel()
	n := actions(t, 600, 1)
	rng := random(t)
	lasts := time.Duration(n) * pressEvery
	server := redistest.Start(t)
	w := newWorld(t, settings{
		redis: configs.Redis{Addrs: []string{server.Addr()}}, tasks: firstTasks + 2*n,
		limits: limitsForMix(firstTasks+n/2, lasts), attempts: attempts,
	})
	w.injectFaults()
	producers, operator := w.producer(rng), w.buttonPresser(rng)
	producers.grouped = true
	producers.add(firstTasks)
	fleet := w.fleet(3, "--listen", "127.0.0.1:0", "--log-level", "debug")
	w.actUnderFaults(fleet, n, pressEvery, func() {
		if rng.IntN(2) == 0 {
			producers.add(1)
		}
		if rng.IntN(10) == 0 {
			for _, id := range producers.repeat(3) {
				delete(operator.deleted, id)
			}
		}
		operator.press()
	})
	operator.resumeAll()
	w.settleWhen(fleet, 5*time.Minute, func() bool { return true })
	operator.logCounts()
	fleet.ready()
	fleet.stop()
	a := w.auditWith(producers.all, w.repair(producers.all, operator.deleted))
	producers.logOutcomes(a, operator.deleted)
	a.noDuplicates()
	a.noSecondCall()
	a.unknownsWereInFlight()
	fleet.logsAreClean()
}

// repair runs check --repair, which ends the tasks deleted in asynqmon, and returns the allowed
// outcomes. Tasks of plain asynq clients have no mark and may end without an outcome.
func (w *world) repair(all map[string]testTask, deleted map[string]bool) interventions {
	w.t.Helper()
	w.output("check", "--repair")
	l := interventions{canceled: deleted, deleted: make(map[string]bool)}
	for id := range deleted {
		task := all[id]
		if l.deleted[id] = task.plain; task.plain {
			continue
		}
		result, err := w.client.Result(w.t.Context(), task.app, id)
		if err != nil || result.Outcome == "" || result.Outcome == tasks.OutcomeCanceled && result.Reason != "deleted" {
			w.t.Errorf("%s was deleted in asynqmon; after the repair it is %s %s %s (%v)", id, result.State, result.Outcome, result.Reason, err)
		}
	}
	return l
}

// actUnderFaults calls act n times at equal intervals. During the first third a replica is killed
// every two seconds.
func (w *world) actUnderFaults(f *fleet, n int, every time.Duration, act func()) {
	w.t.Helper()
	kills, acts := time.NewTicker(killEvery), time.NewTicker(every)
	defer kills.Stop()
	defer acts.Stop()
	for i := 0; i < n; {
		f.restartEnded()
		select {
		case <-kills.C:
			if i < n/3 {
				f.kill()
			}
		case <-acts.C:
			act()
			i++
		}
	}
}
