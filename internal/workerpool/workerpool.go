// Package workerpool runs functions on goroutines that it reuses.
package workerpool

import "sync"

// Pool runs deliveries on goroutines that it reuses. asynq starts a goroutine for
// each task, and the deep calls into net/http and go-redis would grow and copy its stack
// several times.
type Pool struct {
	mu      sync.Mutex
	idle    []*worker // guarded by mu; the one that became idle last is reused first
	stopped bool      // guarded by mu
	running sync.WaitGroup
}

// worker is one goroutine of the pool.
type worker struct {
	next     chan func()   // functions to run; closed to stop the goroutine
	finished chan struct{} // gets a token after each function
	exited   bool          // the function ended the goroutine; read after finished
}

// Run runs f on a goroutine of the pool and waits for it. It starts a goroutine when none
// is idle, so the pool never exceeds the peak concurrency.
func (p *Pool) Run(f func()) {
	m := p.acquire()
	m.next <- f
	<-m.finished
	p.release(m)
}

// acquire returns an idle worker, or a new one.
func (p *Pool) acquire() *worker {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.idle); n > 0 {
		m := p.idle[n-1]
		p.idle = p.idle[:n-1]
		return m
	}
	m := &worker{next: make(chan func(), 1), finished: make(chan struct{}, 1)}
	p.running.Go(func() {
		for f := range m.next {
			m.run(f)
		}
	})
	return m
}

// run runs one function. A hook of an embedding service may end the goroutine in it, as
// testing.T.Fatal does.
func (m *worker) run(f func()) {
	m.exited = true
	defer func() { m.finished <- struct{}{} }()
	f()
	m.exited = false
}

// release makes a worker idle, or stops it when the pool has been stopped.
func (p *Pool) release(m *worker) {
	if m.exited {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		close(m.next)
		return
	}
	p.idle = append(p.idle, m)
}

// Stop stops the goroutines, each after the function that it runs, and waits for them.
func (p *Pool) Stop() {
	p.mu.Lock()
	p.stopped = true
	for _, m := range p.idle {
		close(m.next)
	}
	p.idle = nil
	p.mu.Unlock()
	p.running.Wait()
}
