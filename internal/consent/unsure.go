package consent

import (
	"context"
	"sync"
	"time"

	"github.com/wxcourier/wxcourier/internal/background"
)

// unsure is a message that Observe sent although no credit was known, that WeChat accepted, and that
// Enforce would have handed back first. Whether Enforce would have been wrong depends on whether the
// push of an acceptance comes in time.
type unsure struct {
	message  Message
	accepted int64 // the last acceptance that was known before the call
	due      time.Time
}

const (
	// maxUnsure bounds the messages that wait for the judgement. Further ones are not judged.
	maxUnsure = 100_000
	// judgeEvery is how often messages are judged.
	judgeEvery = time.Second
)

// judgeLater lets Run find out whether Enforce would have refused a message.
func (c *Checker) judgeLater(k *Checked) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.unsure) < maxUnsure {
		due := k.message.Enqueued.Add(c.PushDelay)
		if latest := k.message.Began.Add(c.PushDelay); latest.Before(due) {
			due = latest // the producer's clock is ahead
		}
		c.unsure = append(c.unsure, unsure{k.message, k.accepted, due})
	}
}

// Run writes the counts, and judges messages, until ctx ends. Messages that are to be judged later are
// not judged then.
func (c *Checker) Run(ctx context.Context) {
	var counts sync.WaitGroup
	defer counts.Wait()
	counts.Go(func() { c.Counts.Run(ctx) })
	for background.Sleep(ctx, judgeEvery) {
		c.judge(ctx, c.takeDue(c.Now()))
	}
}

// takeDue removes the messages for which the time has come.
func (c *Checker) takeDue(now time.Time) (due []unsure) {
	c.mu.Lock()
	defer c.mu.Unlock()
	later := c.unsure[:0:0]
	for _, u := range c.unsure {
		if now.Before(u.due) {
			later = append(later, u)
		} else {
			due = append(due, u)
		}
	}
	c.unsure = later
	return due
}

// judge counts those messages for which no acceptance was heard of meanwhile: Enforce would have
// refused them. When Redis does not answer, the others are left out.
func (c *Checker) judge(ctx context.Context, all []unsure) {
	for _, u := range all {
		within, cancel := context.WithTimeout(ctx, callTimeout)
		entry, err := c.Store.Get(within, u.message.App, u.message.OpenID, u.message.Template)
		cancel()
		switch {
		case err != nil:
			c.warn(u.message, err)
			return
		case entry.accepted <= u.accepted:
			c.count(u.message, CheckWouldStop)
			c.count(u.message, CheckWrong)
		}
	}
}
