package worker

import "sync"

// workerPool runs deliveries on goroutines that stay. A delivery goes deep, into net/http and
// go-redis, and a new goroutine's stack would be grown and copied several times for each;
// asynq makes a new one for every task.
type workerPool struct {
	mu   sync.Mutex
	idle []*poolWorker // guarded by mu; who waits for work, the latest last
	stopped bool      // guarded by mu
	running  sync.WaitGroup
}

// poolWorker is one of the crew.
type poolWorker struct {
	next     chan func()   // its next work; closed when it is dismissed
	finished chan struct{} // gets a token at the end of each
	exited     bool          // its goroutine has ended, before finished had the last token
}

// run runs f on one of the crew, and waits for it. Whoever is not there is hired; there
// are never more than run at the same time.
func (c *workerPool) run(f func()) {
	m := c.acquire()
	m.next <- f
	<-m.finished
	c.release(m)
}

// acquire is a member that has nothing to do.
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

// run does one piece of work. A hook of an embedder's may end the goroutine in it, as a
// test's Fatal does.
func (m *poolWorker) run(f func()) {
	m.exited = true
	defer func() { m.finished <- struct{}{} }()
	f()
	m.exited = false
}

// release lets a member wait for more, or go when the crew was dismissed.
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

// stop ends the crew when its work is done.
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
