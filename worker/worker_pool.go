package worker

import "sync"

// workerPool runs deliveries on goroutines that it reuses. asynq starts a goroutine for
// each task, and the deep calls into net/http and go-redis would grow and copy its stack
// several times.
type workerPool struct {
	mu      sync.Mutex
	idle    []*poolWorker // guarded by mu; the one that became idle last is reused first
	stopped bool          // guarded by mu
	running sync.WaitGroup
}

// poolWorker is one goroutine of the pool.
type poolWorker struct {
	next     chan func()   // functions to run; closed to stop the goroutine
	finished chan struct{} // gets a token after each function
	exited   bool          // the function ended the goroutine; read after finished
}

// run runs f on a goroutine of the pool and waits for it. It starts a goroutine when none
// is idle, so the pool never exceeds the peak concurrency.
func (c *workerPool) run(f func()) {
	m := c.acquire()
	m.next <- f
	<-m.finished
	c.release(m)
}

// acquire returns an idle worker, or a new one.
func (c *workerPool) acquire() *poolWorker {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := len(c.idle); n > 0 {
		m := c.idle[n-1]
		c.idle = c.idle[:n-1]
		return m
	}
	m := &poolWorker{next: make(chan func(), 1), finished: make(chan struct{}, 1)}
	c.running.Go(func() {
		for f := range m.next {
			m.run(f)
		}
	})
	return m
}

// run runs one function. A hook of an embedding service may end the goroutine in it, as
// testing.T.Fatal does.
func (m *poolWorker) run(f func()) {
	m.exited = true
	defer func() { m.finished <- struct{}{} }()
	f()
	m.exited = false
}

// release makes a worker idle, or stops it when the pool has been stopped.
func (c *workerPool) release(m *poolWorker) {
	if m.exited {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped {
		close(m.next)
		return
	}
	c.idle = append(c.idle, m)
}

// stop stops the goroutines, each after the function that it runs, and waits for them.
func (c *workerPool) stop() {
	c.mu.Lock()
	c.stopped = true
	for _, m := range c.idle {
		close(m.next)
	}
	c.idle = nil
	c.mu.Unlock()
	c.running.Wait()
}
