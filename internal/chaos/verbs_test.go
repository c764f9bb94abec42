package chaos

import (
	"fmt"
	"math/rand/v2"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wxcourier/wxcourier/configs"
	"github.com/wxcourier/wxcourier/internal/e2e"
	"github.com/wxcourier/wxcourier/internal/redistest"
)

// TestVerbsAtRandom runs the commands hold, release, cancel and redrive at random, several at once and
// some of them killed, while producers enqueue, replicas are killed, and WeChat is busy and breaks
// connections. After everything is released, every task has one outcome per generation, canceled
// tasks were not sent, no message was sent twice in a generation, and the batches' counters agree.
func TestVerbsAtRandom(t *testing.T) {
	t.Parallel()
	n := actions(t, 120, 10)
	rng := random(t)
	server := redistest.Start(t)
	w := newWorld(t, settings{
		redis: configs.Redis{Addrs: []string{server.Addr()}}, tasks: firstTasks + 20*n,
		limits: limitsForMix(firstTasks+3*n, time.Duration(n)*commandEvery), attempts: attempts,
	})
	w.injectFaults()
	producers := w.producer(rng)
	operators := &operators{w: w, rng: rng, producer: producers, canceled: make(map[string]bool), counts: make(map[string]int)}
	producers.split = true
	producers.add(firstTasks)
	fleet := w.fleet(3, "--listen", "127.0.0.1:0", "--log-level", "debug")
	w.actUnderFaults(fleet, n, commandEvery, func() {
		producers.add(3)
		if rng.IntN(4) == 0 {
			producers.repeat(3)
		}
		operators.act()
	})
	operators.releaseAll()
	w.settleWhen(fleet, 5*time.Minute, func() bool { return true })
	fleet.ready()
	fleet.stop()
	a := w.auditWith(producers.all, interventions{canceled: operators.mayBeCanceled(), redriven: true, held: true})
	operators.logCounts()
	a.noDuplicates()
	a.noSecondCall()
	a.unknownsWereInFlight()
	fleet.logsAreClean()
}

// commandEvery is the time between two rounds of commands.
const commandEvery = 150 * time.Millisecond

// operators run commands of the program.
type operators struct {
	w        *world
	rng      *rand.Rand
	producer *producer
	canceled map[string]bool // by id, or by "<app> <batch>"

	mu     sync.Mutex
	counts map[string]int // by verb, and by "<verb> killed"; guarded by mu
}

// act runs up to three commands concurrently, and kills some of them.
func (o *operators) act() {
	o.w.t.Helper()
	var all sync.WaitGroup
	for range 1 + o.rng.IntN(3) {
		args, killAfter := o.command(), time.Duration(0)
		if o.rng.IntN(4) == 0 {
			killAfter = time.Duration(5+o.rng.IntN(40)) * time.Millisecond
		}
		all.Go(func() { o.run(args, killAfter) })
	}
	all.Wait()
}

// command chooses a command with its arguments.
func (o *operators) command() []string {
	app := []string{mini, official, third}[o.rng.IntN(3)]
	switch o.rng.IntN(6) {
	case 0, 1:
		args := append([]string{"hold"}, o.scope(app)...)
		if o.rng.IntN(2) == 0 {
			args = append(args, "--until", time.Now().Add(time.Duration(2+o.rng.IntN(4))*time.Second).Format(time.RFC3339))
		}
		return args
	case 2, 3:
		return append([]string{"release"}, o.scope(app)...)
	case 4:
		return o.cancel(app)
	default:
		return o.redrive(app)
	}
}

// scope chooses the scope of a hold or release.
func (o *operators) scope(app string) []string {
	args := []string{"--app", app}
	switch o.rng.IntN(4) {
	case 0:
	case 1:
		args = append(args, "--template", "T1")
	default:
		rows := taskMix()
		args = append(args, "--type", rows[o.rng.IntN(len(rows))].typ)
	}
	return args
}

func (o *operators) cancel(app string) []string {
	args := []string{"cancel", "--app", app}
	if o.rng.IntN(4) == 0 {
		batch := o.producer.anyBatch()
		o.canceled[app+" "+batch] = true
		return append(args, "--batch", batch)
	}
	for _, id := range o.ids(app) {
		o.canceled[id] = true
		args = append(args, "--id", id)
	}
	return args
}

func (o *operators) redrive(app string) []string {
	args := []string{"redrive", "--app", app, "--outcome", "unknown,failed,rejected"}
	switch o.rng.IntN(4) {
	case 0:
		args = append(args, "--batch", o.producer.anyBatch())
	case 1:
		for _, id := range o.ids(app) {
			args = append(args, "--id", id)
		}
	default:
		args = append(args, "--limit", "5")
	}
	return args
}

// ids chooses some tasks of an app, preferring recent ones.
func (o *operators) ids(app string) (ids []string) {
	for len(ids) < 3 {
		n := len(o.producer.all)
		if o.rng.IntN(2) == 0 {
			n -= max(n-30, 0)
		}
		id := fmt.Sprintf("task-%d", len(o.producer.all)-1-o.rng.IntN(n))
		if o.producer.all[id].app == app {
			ids = append(ids, id)
		}
	}
	return ids
}

// run runs a command and reports whether it succeeded. It kills the command after killAfter, if that
// is not 0.
func (o *operators) run(args []string, killAfter time.Duration) (ok bool) {
	var output e2e.Output
	cmd := o.w.command(args...)
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		o.w.t.Errorf("%v: %v", args, err)
		return false
	}
	what := args[0]
	if killAfter > 0 {
		timer := time.AfterFunc(killAfter, func() { _ = cmd.Process.Kill() })
		defer timer.Stop()
		what += " with a deadline"
	}
	_ = cmd.Wait()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.counts[what]++
	return o.verdict(cmd, args, output.String())
}

// verdict reports whether a command succeeded, and fails the test on an unexpected error. A command
// that was killed or must be repeated has not succeeded.
func (o *operators) verdict(cmd *exec.Cmd, args []string, output string) bool {
	switch code := cmd.ProcessState.ExitCode(); {
	case code == 0:
		return true
	case code == -1: // killed
		o.counts[args[0]+" killed"]++
	case code == 1 && args[0] == "redrive" && strings.Contains(output, "repeat the command"):
		o.counts["redrive to be repeated"]++
	case code == 1 && args[0] == "cancel" && strings.Contains(output, "has no batch"):
	case code == 1 && args[0] == "hold" && strings.Contains(output, "released by another operator"):
	default:
		o.w.t.Errorf("%v: status %d\n%s", args, code, output)
	}
	return false
}

// releaseAll releases everything, and completes the redrives that were killed.
func (o *operators) releaseAll() {
	o.w.t.Helper()
	for _, app := range []string{mini, official, third} {
		o.run([]string{"release", "--app", app}, 0)
		o.run([]string{"release", "--app", app, "--template", "T1"}, 0)
		for typ := range bodies {
			o.run([]string{"release", "--app", app, "--type", typ}, 0)
		}
		redistest.Until(o.w.t, 2*time.Minute, "all redrives are complete", func() bool {
			return o.run([]string{"redrive", "--app", app, "--outcome", "unknown", "--errcode", "99999"}, 0)
		})
	}
}

// mayBeCanceled returns the tasks that a command tried to cancel.
func (o *operators) mayBeCanceled() map[string]bool {
	all := make(map[string]bool)
	for id, task := range o.producer.all {
		all[id] = o.canceled[id] || o.canceled[task.app+" "+task.batchName()]
	}
	return all
}

// logCounts logs the number of commands, and fails when a verb was never run without a deadline.
func (o *operators) logCounts() {
	o.w.t.Helper()
	o.w.t.Logf("%d tasks, %d calls, %d replicas killed, commands %v", len(o.producer.all), o.w.sends(), len(o.w.faults.list()), o.counts)
	for _, verb := range []string{"hold", "release", "cancel", "redrive"} {
		if o.counts[verb] == 0 {
			o.w.t.Errorf("%s was never run to its end", verb)
		}
	}
}
