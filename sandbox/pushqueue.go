package sandbox

import (
	"container/heap"
	"context"
	"maps"
	"net/http"
	"sync"
	"time"

	"github.com/wxcourier/wxcourier/sandbox/internal/pushwire"
)

// queuedPush is a push that waits or is being sent.
type queuedPush struct {
	record   Push // as last logged
	envelope pushwire.Element
	body     []pushwire.Element
	xmlOnly  bool
	forged   bool
	early    bool
	wait     time.Duration // between the event and the first attempt
	due      time.Time
	order    uint64 // among pushes that are due at the same time
}

// pushHeap is the queue, by due time.
type pushHeap []*queuedPush

func (h pushHeap) Len() int { return len(h) }
func (h pushHeap) Less(i, j int) bool {
	if !h[i].due.Equal(h[j].due) {
		return h[i].due.Before(h[j].due)
	}
	return h[i].order < h[j].order
}
func (h pushHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }

// Push implements heap.Interface.
func (h *pushHeap) Push(x any) { *h = append(*h, x.(*queuedPush)) }

// Pop implements heap.Interface.
func (h *pushHeap) Pop() any {
	last := len(*h) - 1
	p := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return p
}

// pusher sends pushes in the background. Its goroutines exist only while pushes wait or are being sent: one that waits until
// the next is due, and one for each that is being sent.
type pusher struct {
	opts   PushOptions
	clock  func() time.Time
	client *http.Client
	keep   int           // of the latest pushes, in the log
	wake   chan struct{} // the queue has a new first push
	slots  chan struct{} // one for each push that is being sent

	running sync.WaitGroup

	mu          sync.Mutex // guards the fields below
	ctx         context.Context
	cancel      context.CancelFunc
	closed      bool
	targets     map[string]pushwire.Target
	queue       pushHeap
	dispatching bool
	unfinished  int           // planned, waiting or being sent
	idle        chan struct{} // closed when unfinished becomes 0; nil while there is no waiter
	log         []Push        // ring, see slot
	total       uint64
	first       uint64 // pushes up to this one were cleared by reset
	counts      map[PushStatus]int
}

func newPusher(opts Options) *pusher {
	p := &pusher{
		opts: opts.Pushes, clock: opts.Clock, keep: opts.KeepCalls, wake: make(chan struct{}, 1), slots: make(chan struct{}, opts.Pushes.Concurrency),
		targets: callbackTargets(opts.Callbacks), counts: map[PushStatus]int{},
		client: &http.Client{
			Transport:     &http.Transport{MaxIdleConnsPerHost: opts.Pushes.Concurrency, IdleConnTimeout: time.Minute},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p
}

// open lets pushes be sent again after close.
func (p *pusher) open() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		p.closed = false
		p.ctx, p.cancel = context.WithCancel(context.Background())
	}
}

func (p *pusher) close() {
	p.mu.Lock()
	p.closed = true
	p.cancel()
	p.discardQueue()
	p.mu.Unlock()
	p.running.Wait()
	p.client.CloseIdleConnections()
}

// reset discards the queue and clears the log.
func (p *pusher) reset(targets map[string]pushwire.Target) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.discardQueue()
	p.targets, p.log, p.first, p.counts = targets, nil, p.total, map[PushStatus]int{}
}

// discardQueue ends the pushes that wait. The caller holds p.mu.
func (p *pusher) discardQueue() {
	for _, q := range p.queue {
		q.record.Status = PushDiscarded
		p.finish(q)
	}
	p.queue = nil
}

func (p *pusher) setTarget(app string, t pushwire.Target) {
	p.mu.Lock()
	defer p.mu.Unlock()
	targets := maps.Clone(p.targets)
	targets[app] = t
	p.targets = targets
}

func (p *pusher) removeTarget(app string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	targets := maps.Clone(p.targets)
	delete(targets, app)
	p.targets = targets
}

// hasTarget reports whether an app's events are pushed.
func (p *pusher) hasTarget(app string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, ok := p.targets[app]
	return ok && !p.closed
}

// plan logs a push, numbers it, and counts it as unfinished. It reports whether it is to be enqueued.
func (p *pusher) plan(q *queuedPush) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.total++
	q.record.Seq = p.total
	if q.record.Status == "" {
		q.record.Status = PushQueued
		if p.closed || p.unfinished >= p.opts.MaxQueue {
			q.record.Status = PushDiscarded
		}
	}
	if at := p.slot(p.total); at < len(p.log) {
		p.log[at] = q.record
	} else {
		p.log = append(p.log, q.record)
	}
	p.counts[q.record.Status]++
	if q.record.Status != PushQueued {
		return false
	}
	p.unfinished++
	return true
}

// slot returns the place of push n in the log. The caller holds p.mu.
func (p *pusher) slot(n uint64) int { return int((n - p.first - 1) % uint64(p.keep)) } //nolint:gosec // keep is positive

// finish logs the end of a push. The caller holds p.mu.
func (p *pusher) finish(q *queuedPush) {
	p.update(q)
	p.unfinished--
	if p.unfinished == 0 && p.idle != nil {
		close(p.idle)
		p.idle = nil
	}
}

// update logs the present state of a push. The caller holds p.mu.
func (p *pusher) update(q *queuedPush) {
	if q.record.Seq <= p.first {
		return // cleared by reset
	}
	if q.record.Status != PushQueued {
		p.counts[PushQueued]--
		p.counts[q.record.Status]++
	}
	if entry := &p.log[p.slot(q.record.Seq)]; entry.Seq == q.record.Seq {
		*entry = q.record
	}
}

// enqueue lets planned pushes be sent when they are due.
func (p *pusher) enqueue(pushes ...*queuedPush) {
	if len(pushes) == 0 {
		return
	}
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, q := range pushes {
		q.due = now.Add(q.wait)
		if p.opts.Shuffle > 0 {
			q.due = q.due.Truncate(p.opts.Shuffle).Add(p.opts.Shuffle)
		}
		p.insert(q)
	}
}

// insert adds a push to the queue, or ends it. The caller holds p.mu.
func (p *pusher) insert(q *queuedPush) {
	if p.closed || q.record.Seq <= p.first {
		q.record.Status = PushDiscarded
		p.finish(q)
		return
	}
	heap.Push(&p.queue, q)
	if !p.dispatching {
		p.dispatching = true
		p.running.Add(1)
		go p.dispatch(p.ctx)
		return
	}
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// dispatch starts the pushes that are due, until the queue is empty or ctx ends.
func (p *pusher) dispatch(ctx context.Context) {
	defer p.running.Done()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case p.slots <- struct{}{}:
		case <-ctx.Done():
			p.stopDispatching()
			return
		}
		q, wait := p.next()
		if q != nil {
			go p.sendQueued(ctx, q) // counted by next
			continue
		}
		<-p.slots
		if wait < 0 {
			return
		}
		timer.Reset(wait)
		select {
		case <-timer.C:
		case <-p.wake:
		case <-ctx.Done():
			p.stopDispatching()
			return
		}
	}
}

func (p *pusher) stopDispatching() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dispatching = false
}

// next returns the first push if it is due, or how long until it is; negative: the queue is empty, and the dispatcher ends.
func (p *pusher) next() (*queuedPush, time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.queue) == 0 {
		p.dispatching = false
		return nil, -1
	}
	if wait := time.Until(p.queue[0].due); wait > 0 {
		return nil, wait
	}
	p.running.Add(1)
	q, _ := heap.Pop(&p.queue).(*queuedPush)
	return q, 0
}

func (p *pusher) sendQueued(ctx context.Context, q *queuedPush) {
	defer p.running.Done()
	defer func() { <-p.slots }()
	p.send(ctx, q)
}

func (p *pusher) wait(ctx context.Context) error {
	p.mu.Lock()
	if p.unfinished == 0 {
		p.mu.Unlock()
		return nil
	}
	if p.idle == nil {
		p.idle = make(chan struct{})
	}
	idle := p.idle
	p.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *pusher) list(f PushFilter) []Push {
	p.mu.Lock()
	defer p.mu.Unlock()
	var list []Push
	for n := max(p.first, p.total-min(p.total, uint64(p.keep))) + 1; n <= p.total; n++ { //nolint:gosec // keep is positive
		if entry := &p.log[p.slot(n)]; f.matches(entry) {
			list = append(list, *entry)
		}
	}
	return list
}

func (p *pusher) countsByStatus() map[PushStatus]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	counts := maps.Clone(p.counts)
	maps.DeleteFunc(counts, func(_ PushStatus, n int) bool { return n == 0 })
	return counts
}
