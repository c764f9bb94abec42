package sandbox

import (
	"bytes"
	"container/heap"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/wxcourier/wxcourier/sandbox/internal/pushwire"
)

// maxReply bounds the part of the answer to a push that is read.
const maxReply = 64 << 10

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

// sendNow sends a planned push before it returns. Further attempts follow in the background.
func (p *pusher) sendNow(q *queuedPush) {
	p.mu.Lock()
	ctx, closed := p.ctx, p.closed
	if !closed {
		p.running.Add(1)
	}
	p.mu.Unlock()
	if closed {
		p.enqueue(q) // ends it
		return
	}
	defer p.running.Done()
	p.send(ctx, q)
}

// send makes one attempt, and then ends the push or lets it wait for the next.
func (p *pusher) send(ctx context.Context, q *queuedPush) {
	p.mu.Lock()
	target, ok := p.targets[q.record.App]
	p.mu.Unlock()
	started := time.Now()
	q.record.Attempts++
	q.record.Answer, q.record.Error = 0, "the app has no callback"
	taken := false
	if ok {
		taken = p.attempt(ctx, target, q)
	}
	q.record.Took = time.Since(started)
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case taken:
		q.record.Status = PushTaken
	case q.record.Attempts >= p.opts.Attempts || !ok:
		q.record.Status = PushFailed
	default:
		p.update(q)
		q.due = started.Add(p.opts.Interval)
		p.insert(q)
		return
	}
	p.finish(q)
}

// attempt makes one request. It reports whether it was answered as WeChat expects.
func (p *pusher) attempt(ctx context.Context, target pushwire.Target, q *queuedPush) bool {
	ctx, cancel := context.WithTimeout(ctx, p.opts.Timeout)
	defer cancel()
	if q.xmlOnly {
		target.JSON = false
	}
	wire := pushwire.Push{Envelope: q.envelope, OpenID: q.record.OpenID, Body: q.body, At: p.clock(), Forged: q.forged}
	wire.Nonce = newNonce()
	copy(wire.Random[:], strconv.FormatUint(1e15+rand.Uint64()%9e15, 10)) //nolint:gosec // nothing secret: it is part of what is encrypted
	r, err := target.Request(ctx, wire)
	if err != nil {
		q.record.Error = "the request cannot be made"
		return false
	}
	answer, err := p.client.Do(r)
	if err != nil {
		q.record.Error = "no answer"
		if errors.Is(err, context.DeadlineExceeded) {
			q.record.Error = "no answer in time"
		}
		return false
	}
	defer func() { _ = answer.Body.Close() }()
	q.record.Answer, q.record.Error = answer.StatusCode, ""
	reply, err := io.ReadAll(io.LimitReader(answer.Body, maxReply))
	switch {
	case err != nil:
		q.record.Error = "the answer was cut"
	case answer.StatusCode != http.StatusOK:
		q.record.Error = "an answer with another status than 200"
	case !goodReply(reply):
		q.record.Error = `an answer that is neither empty nor "success" nor a reply`
	}
	return q.record.Error == ""
}

// newNonce returns a random number of at most ten digits.
func newNonce() string { return strconv.FormatUint(rand.Uint64()%1e10, 10) } //nolint:gosec // not a secret

// verify checks an app's URL as WeChat does.
func (p *pusher) verify(ctx context.Context, app string) error {
	p.mu.Lock()
	target, ok := p.targets[app]
	p.mu.Unlock()
	if !ok {
		return fmt.Errorf("sandbox: the app %q has no callback", app)
	}
	ctx, cancel := context.WithTimeout(ctx, p.opts.Timeout)
	defer cancel()
	echo := newNonce()
	r, err := target.Verification(ctx, p.clock(), newNonce(), echo)
	if err != nil {
		return err
	}
	answer, err := p.client.Do(r)
	if err != nil {
		return errors.New("sandbox: the URL of the callback did not answer") // err has the signature
	}
	defer func() { _ = answer.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxReply))
	if err != nil || answer.StatusCode != http.StatusOK || string(body) != echo {
		return fmt.Errorf("sandbox: the URL of the callback answered %d, and not the echostr alone", answer.StatusCode)
	}
	return nil
}

// goodReply reports whether an answer is empty, "success" or a reply in XML or JSON.
func goodReply(answer []byte) bool {
	answer = bytes.TrimSpace(answer)
	return len(answer) == 0 || string(answer) == "success" || answer[0] == '<' || answer[0] == '{'
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
