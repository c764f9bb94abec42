package worker

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// maxDequeueWait is how long a dequeue of asynq's may wait. asynq reckons the lease of what it
	// gets from when it asked: one that asked long ago is told that there is nothing, and
	// asks again at once.
	maxDequeueWait = 5 * time.Second
	// maxPerRoundTrip is how many tasks of all lanes a round trip takes at most. asynq starts
	// them one after the other, and their leases run.
	maxPerRoundTrip = 128
)

// dequeuer answers the dequeues of one asynq server from the queues of many lanes. The
// server has one queue, which exists only as a name; asynq asks for it again and again,
// and the dequeuer asks in its place for the lanes that are ready: those with work to look
// for, a free slot and a permit. They take turns, and share round trips. A task's message
// names its real queue, so that asynq settles it there.
//
// A dequeue waits while no lane is ready. It holds no connection then.
type dequeuer struct {
	queue    string // of the server
	pipeline func() redis.Pipeliner
	gateReady     chan struct{} // holds one token when a gate has become ready, or at the end
	admission     admission

	mu       sync.Mutex
	ready    []*gate          // guarded by mu; in the order in which they came
	tasks    []prefetched     // guarded by mu; came with others, for asynq's next dequeues
	noScript error            // guarded by mu; of a Redis that does not know the script: asynq is to send it whole
	closed   bool             // guarded by mu
	gates    map[string]*gate // guarded by mu; of the lanes, by queue
}

// prefetched is a dequeued task that asynq has not got yet.
type prefetched struct {
	message any // as the script replied
	gate    *gate
}

func newDequeuer(queue string, pipeline func() redis.Pipeliner) *dequeuer {
	return &dequeuer{
		queue: queue, pipeline: pipeline, gateReady: make(chan struct{}, 1),
		admission: admission{limit: maxPreparing}, gates: make(map[string]*gate),
	}
}

// add has the dequeuer ask for a lane's queues, until the lane closes; then remove it.
func (d *dequeuer) add(g *gate) {
	g.admission = &d.admission
	d.mu.Lock()
	for _, q := range g.queues {
		d.gates[q.name] = g
	}
	d.mu.Unlock()
	go g.run(d.offer)
}

// remove forgets a lane.
func (d *dequeuer) remove(g *gate) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, q := range g.queues {
		if d.gates[q.name] == g {
			delete(d.gates, q.name)
		}
	}
}

// serves tells whether a queue is one of its lanes'.
func (d *dequeuer) serves(queue string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.gates[queue] != nil
}

// wakeLane tells a queue's gate, where it is one of its lanes', that the queue has work.
func (d *dequeuer) wakeLane(queue string) {
	d.mu.Lock()
	g := d.gates[queue]
	d.mu.Unlock()
	if g != nil {
		g.wake()
	}
}

// lanes returns the gates by queue.
func (d *dequeuer) lanes() map[string]*gate {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := make(map[string]*gate, len(d.gates))
	for name, g := range d.gates {
		all[name] = g
	}
	return all
}

// close ends the waiting of asynq's dequeues. The lanes have closed before.
func (d *dequeuer) close() {
	d.mu.Lock()
	d.closed = true
	d.mu.Unlock()
	signal(d.gateReady)
}

// offer lines a gate up, and waits until it was asked or its lane closes.
func (d *dequeuer) offer(g *gate) {
	d.mu.Lock()
	d.ready = append(d.ready, g)
	d.mu.Unlock()
	signal(d.gateReady)
	select {
	case <-g.returned:
	case <-g.ctx.Done():
		d.mu.Lock()
		i := slices.Index(d.ready, g)
		if i >= 0 {
			d.ready = slices.Delete(d.ready, i, i+1)
		}
		d.mu.Unlock()
		if i < 0 {
			<-g.returned
		}
	}
}

// dequeue answers a dequeue of asynq's.
func (d *dequeuer) dequeue(ctx context.Context, cmd *redis.Cmd, next redis.ProcessHook) error {
	if message, ok := d.pop(); ok {
		cmd.SetVal(message)
		return nil
	}
	patience := time.NewTimer(maxDequeueWait)
	defer patience.Stop()
	for began := time.Now(); !d.isClosed() && time.Since(began) < maxDequeueWait; {
		if err := d.takeNoScript(); err != nil && cmd.Name() == "evalsha" {
			cmd.SetErr(err)
			return err
		}
		room := d.admission.room(time.Now())
		gates := d.takeReady(room)
		if len(gates) == 0 {
			d.await(room, patience)
			continue
		}
		if err := d.roundTrip(ctx, cmd, gates, min(room, maxPerRoundTrip), next); err != nil {
			cmd.SetErr(err)
			return err
		}
		if message, ok := d.pop(); ok {
			cmd.SetVal(message)
			return nil
		}
	}
	cmd.SetErr(redis.Nil) // as an empty queue answers
	return redis.Nil
}

// pop returns the next task that was dequeued.
func (d *dequeuer) pop() (message any, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.tasks) == 0 {
		return nil, false
	}
	first := d.tasks[0]
	d.tasks = d.tasks[1:]
	first.gate.passedToAsynq(d.admission.begin(time.Now()))
	return first.message, true
}

// await waits until a gate may be ready.
func (d *dequeuer) await(room int, patience *time.Timer) {
	var again <-chan time.Time
	if room < 1 || d.admission.hasWaiting() {
		t := time.NewTimer(recountEvery)
		defer t.Stop()
		again = t.C
	}
	select {
	case <-d.gateReady:
	case <-again:
	case <-patience.C:
	}
}

// takeReady takes the gates that have lined up, when there is room for tasks.
func (d *dequeuer) takeReady(room int) []*gate {
	if room < 1 {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	gates := d.ready
	d.ready = nil
	return gates
}

// takeNoScript returns what a Redis said that does not know the script, once.
func (d *dequeuer) takeNoScript() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	err := d.noScript
	d.noScript = nil
	return err
}

func (d *dequeuer) isClosed() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.closed
}
