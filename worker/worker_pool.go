package worker

import "sync"

// crew runs deliveries on goroutines that stay. A delivery goes deep, into net/http and
// go-redis, and a new goroutine's stack would be grown and copied several times for each;
// asynq makes a new one for every task.
type crew struct {
	mu   sync.Mutex
	idle []*member // guarded by mu; who waits for work, the latest last
	done bool      // guarded by mu
	all  sync.WaitGroup
}

// member is one of the crew.
type member struct {
	next     chan func()   // its next work; closed when it is dismissed
	finished chan struct{} // gets a token at the end of each
	gone     bool          // its goroutine has ended, before finished had the last token
}

// do runs f on one of the crew, and waits for it. Whoever is not there is hired; there
// are never more than run at the same time.
func (c *crew) do(f func()) {
	m := c.one()
	m.next <- f
	<-m.finished
	c.release(m)
}

// one is a member that has nothing to do.
func (c *crew) one() *member {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := len(c.idle); n > 0 {
		m := c.idle[n-1]
		c.idle = c.idle[:n-1]
		return m
	}
	m := &member{next: make(chan func(), 1), finished: make(chan struct{}, 1)}
	c.all.Go(func() {
		for f := range m.next {
			m.work(f)
		}
	})
	return m
}

// work does one piece of work. A hook of an embedder's may end the goroutine in it, as a
// test's Fatal does.
func (m *member) work(f func()) {
	m.gone = true
	defer func() { m.finished <- struct{}{} }()
	f()
	m.gone = false
}

// release lets a member wait for more, or go when the crew was dismissed.
func (c *crew) release(m *member) {
	if m.gone {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done {
		close(m.next)
		return
	}
	c.idle = append(c.idle, m)
}

// dismiss ends the crew when its work is done.
func (c *crew) dismiss() {
	c.mu.Lock()
	c.done = true
	for _, m := range c.idle {
		close(m.next)
	}
	c.idle = nil
	c.mu.Unlock()
	c.all.Wait()
}
