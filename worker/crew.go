package worker

import "sync"

// crew runs deliveries on goroutines that stay. A delivery goes deep, into net/http and
// go-redis, and a new goroutine's stack would be grown and copied several times for each;
// asynq makes a new one for every task.
type crew struct {
	mu   sync.Mutex
	idle []chan func() // guarded by mu; who waits for work, the latest last
	done bool          // guarded by mu
	all  sync.WaitGroup
}

// do runs f on one of the crew, and waits for it. Whoever is not there is hired; there
// are never more than run at the same time.
func (c *crew) do(f func()) {
	finished := make(chan struct{})
	work := func() { defer close(finished); f() }
	c.mu.Lock()
	if n := len(c.idle); n > 0 {
		member := c.idle[n-1]
		c.idle = c.idle[:n-1]
		c.mu.Unlock()
		member <- work
	} else {
		c.all.Go(func() { c.member(work) })
		c.mu.Unlock()
	}
	<-finished
}

// member works until the crew is dismissed.
func (c *crew) member(work func()) {
	next := make(chan func(), 1)
	for {
		work()
		c.mu.Lock()
		if c.done {
			c.mu.Unlock()
			return
		}
		c.idle = append(c.idle, next)
		c.mu.Unlock()
		var more bool
		if work, more = <-next; !more {
			return
		}
	}
}

// dismiss ends the crew when its work is done.
func (c *crew) dismiss() {
	c.mu.Lock()
	c.done = true
	for _, member := range c.idle {
		close(member)
	}
	c.idle = nil
	c.mu.Unlock()
	c.all.Wait()
}
