package gate

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// maxDequeueWait bounds the wait of a dequeue. asynq computes the lease of the task
	// before it sends the dequeue, so a late reply would carry a lease that has partly
	// expired. The dequeue returns empty instead, and asynq repeats it at once.
	maxDequeueWait = 5 * time.Second
	// maxPerRoundTrip bounds the tasks that one round trip dequeues for all lanes. asynq
	// starts them one after the other while their leases run.
	maxPerRoundTrip = 128
)

// dequeuer answers the dequeues of one asynq server from the queues of many lanes. The
// server has a single queue, which exists only as a name. For each of its dequeues the
// dequeuer sends dequeues from the queues of the lanes that are ready: those that may have
// work, and have a free slot and a permit. The lanes share round trips, first come first
// served. The message of a task names its real queue, so asynq settles the task there.
//
// A dequeue waits while no lane is ready. It holds no connection meanwhile.
type dequeuer struct {
	queue     string // the name of the server's queue
	prefix    string // put before each message
	pipeline  func() redis.Pipeliner
	gateReady chan struct{} // holds one token when a gate has become ready, or after close
	admission admission

	mu       sync.Mutex
	ready    []*Gate          // guarded by mu; in the order of offer
	tasks    []prefetched     // guarded by mu; for the next dequeues of asynq
	noScript error            // guarded by mu; a NOSCRIPT reply, which makes asynq send the script itself
	closed   bool             // guarded by mu
	gates    map[string]*Gate // guarded by mu; by the queues of the lanes
}

// prefetched is a dequeued task that has not been passed to asynq yet.
type prefetched struct {
	message any // the reply of asynq's script
	gate    *Gate
}

func newDequeuer(queue string, pipeline func() redis.Pipeliner) *dequeuer {
	return &dequeuer{
		queue: queue, pipeline: pipeline, gateReady: make(chan struct{}, 1),
		admission: admission{limit: maxPreparing}, gates: make(map[string]*Gate),
	}
}

// add starts dequeuing from a lane's queues. Call remove when the lane has closed.
func (d *dequeuer) add(g *Gate) {
	g.admission = &d.admission
	d.mu.Lock()
	for _, q := range g.queues {
		d.gates[q.name] = g
	}
	d.mu.Unlock()
	go g.run(d.offer)
}

// remove removes the queues of a lane.
func (d *dequeuer) remove(g *Gate) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, q := range g.queues {
		if d.gates[q.name] == g {
			delete(d.gates, q.name)
		}
	}
}

// serves reports whether a queue belongs to one of the server's lanes.
func (d *dequeuer) serves(queue string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.gates[queue] != nil
}

// wakeLane wakes the gate of a queue that has work, where the queue belongs to one of the
// server's lanes.
func (d *dequeuer) wakeLane(queue string) {
	d.mu.Lock()
	g := d.gates[queue]
	d.mu.Unlock()
	if g != nil {
		g.Wake()
	}
}

// lanes returns a copy of the gates by queue.
func (d *dequeuer) lanes() map[string]*Gate {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := make(map[string]*Gate, len(d.gates))
	for name, g := range d.gates {
		all[name] = g
	}
	return all
}

// close ends the waits of asynq's dequeues. The lanes must have closed before.
func (d *dequeuer) close() {
	d.mu.Lock()
	d.closed = true
	d.mu.Unlock()
	signal(d.gateReady)
}

// offer adds a gate to those that are ready, and waits until the dequeuer has returned it
// or its lane closes.
func (d *dequeuer) offer(g *Gate) {
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

// dequeue answers one dequeue of asynq.
func (d *dequeuer) dequeue(ctx context.Context, cmd *redis.Cmd, next redis.ProcessHook) error {
	if message, ok := d.pop(); ok {
		cmd.SetVal(message)
		return nil
	}
	timeout := time.NewTimer(maxDequeueWait)
	defer timeout.Stop()
	for began := time.Now(); !d.isClosed() && time.Since(began) < maxDequeueWait; {
		if err := d.takeNoScript(); err != nil && cmd.Name() == "evalsha" {
			cmd.SetErr(err)
			return err
		}
		room := d.admission.room(time.Now())
		gates := d.takeReady(room)
		if len(gates) == 0 {
			d.await(room, timeout)
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
	cmd.SetErr(redis.Nil) // the reply of an empty queue
	return redis.Nil
}

// pop removes and returns the first prefetched task.
func (d *dequeuer) pop() (message any, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.tasks) == 0 {
		return nil, false
	}
	first := d.tasks[0]
	d.tasks = d.tasks[1:]
	first.gate.passedToAsynq(d.admission.begin(time.Now()))
	if message, ok := first.message.(string); ok && d.prefix != "" {
		return d.prefix + message, true
	}
	return first.message, true
}

// await waits until a gate may be ready.
func (d *dequeuer) await(room int, timeout *time.Timer) {
	var again <-chan time.Time
	if room < 1 || d.admission.hasWaiting() {
		t := time.NewTimer(recountEvery)
		defer t.Stop()
		again = t.C
	}
	select {
	case <-d.gateReady:
	case <-again:
	case <-timeout.C:
	}
}

// takeReady removes and returns the gates that are ready, when there is room for tasks.
func (d *dequeuer) takeReady(room int) []*Gate {
	if room < 1 {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	gates := d.ready
	d.ready = nil
	return gates
}

// takeNoScript returns a NOSCRIPT reply, and forgets it.
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
