package console

import (
	"context"
	"sync"
	"time"

	"github.com/wxcourier/wxcourier/internal/series"
	"github.com/wxcourier/wxcourier/tasks"
)

// dayLength is the time whose hours package series keeps together, in UTC.
const dayLength = 24 * time.Hour

// counts are the tasks of a kind that ended, by step.
type counts struct {
	steps []int64
	total int64
}

// outcomeCounts are the outcomes of apps in a span of time.
type outcomeCounts struct {
	from  time.Time
	step  time.Duration
	steps int
	back  time.Time // earlier outcomes are not read yet; zero: all are
	apps  map[string]map[kind]*counts
}

func newOutcomeCounts(from time.Time, step time.Duration, steps int) outcomeCounts {
	return outcomeCounts{from: from, step: step, steps: steps, apps: make(map[string]map[kind]*counts)}
}

// add adds tasks that ended in the step of a time. Times outside of the span are left out.
func (all outcomeCounts) add(app string, k kind, at time.Time, n int64) {
	i := int(at.Sub(all.from) / all.step)
	if n == 0 || at.Before(all.from) || i >= all.steps {
		return
	}
	if all.apps[app] == nil {
		all.apps[app] = make(map[kind]*counts)
	}
	sum := all.apps[app][k]
	if sum == nil {
		sum = &counts{steps: make([]int64, all.steps)}
		all.apps[app][k] = sum
	}
	sum.steps[i] += n
	sum.total += n
}

func (all outcomeCounts) addPoints(points []series.Point) {
	for _, p := range points {
		all.add(p.App, kind{p.Type, tasks.Outcome(p.Outcome), p.ErrCode}, p.At, p.Count)
	}
}

// addAll adds the counts of another span.
func (all outcomeCounts) addAll(other outcomeCounts) {
	for app, kinds := range other.apps {
		for k, n := range kinds {
			for i, v := range n.steps {
				all.add(app, k, other.from.Add(time.Duration(i)*other.step), v)
			}
		}
	}
}

// of returns the sums over some apps.
func (all outcomeCounts) of(apps []string) map[kind]*counts {
	sums := make(map[kind]*counts)
	for _, app := range apps {
		for k, n := range all.apps[app] {
			if sums[k] == nil {
				sums[k] = &counts{steps: make([]int64, all.steps)}
			}
			for i, v := range n.steps {
				sums[k].steps[i] += v
			}
			sums[k].total += n.total
		}
	}
	return sums
}

// outcomes reads the outcomes of all apps in a span of time, once for all viewers.
func (c *Console) outcomes(ctx context.Context, span failureRange) (outcomeCounts, error) {
	shown := span.shared
	if c.pastDays.isPartial(span.Name) {
		shown = sharing // the next reading has more
	}
	return sharedFor(ctx, c, "failures:"+span.Name, shown, func(ctx context.Context) (outcomeCounts, error) {
		apps, err := c.Inspector.Apps(ctx)
		if err != nil {
			return outcomeCounts{}, err
		}
		to := time.Now().UTC().Truncate(span.step).Add(span.step)
		all := newOutcomeCounts(to.Add(-span.span), span.step, int(span.span/span.step))
		if span.step < time.Hour {
			points, err := series.Read(ctx, c.Redis, series.Query{Apps: apps, From: all.from, To: to, Step: series.Minute})
			all.addPoints(points)
			return all, err
		}
		all.back, err = c.addDays(ctx, apps, all)
		c.pastDays.setPartial(span.Name, !all.back.IsZero())
		return all, err
	})
}

// readTime is how long one reading reads days: those of many apps take long. What is missing is read
// by the next ones.
const readTime = 120 * time.Millisecond

// addDays adds the outcomes by hour, the newest day first. back is where it ended before the begin of
// the span, zero if it did not.
func (c *Console) addDays(ctx context.Context, apps []string, all outcomeCounts) (back time.Time, err error) {
	begin, now := time.Now(), time.Now().UTC()
	for at := now.Truncate(dayLength); at.Add(dayLength).After(all.from); at = at.Add(-dayLength) {
		hours, known := c.pastDays.get(at)
		if !known {
			if time.Since(begin) > readTime {
				return at.Add(dayLength), nil
			}
			points, err := series.Read(ctx, c.Redis, series.Query{Apps: apps, From: at, To: at.Add(dayLength), Step: series.Hour})
			if err != nil {
				return time.Time{}, err
			}
			hours = newOutcomeCounts(at, time.Hour, 24)
			hours.addPoints(points)
			c.pastDays.put(at, hours, now)
		}
		all.addAll(hours)
	}
	return time.Time{}, nil
}

// settledAfter is how long after a day its counts do not change any more: replicas that could not write
// do it later.
const settledAfter = 2 * time.Hour

// pastDays keeps the outcomes of days that have passed: some 0.4 MB a day for 200 apps with six kinds
// of outcomes in each hour.
type pastDays struct {
	mu      sync.Mutex
	days    map[time.Time]outcomeCounts // guarded by mu
	partial map[string]bool             // guarded by mu: spans of which a part was not read yet
}

func newPastDays() *pastDays {
	return &pastDays{days: make(map[time.Time]outcomeCounts), partial: make(map[string]bool)}
}

func (p *pastDays) get(at time.Time) (hours outcomeCounts, known bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	hours, known = p.days[at]
	return hours, known
}

// put keeps a day if its counts do not change any more, and forgets days that are too old.
func (p *pastDays) put(at time.Time, hours outcomeCounts, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now.Sub(at) < dayLength+settledAfter {
		return
	}
	p.days[at] = hours
	for old := range p.days {
		if now.Sub(old) > series.Hour.Keep()+2*dayLength {
			delete(p.days, old)
		}
	}
}

func (p *pastDays) isPartial(name string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.partial[name]
}

func (p *pastDays) setPartial(name string, partial bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.partial[name] = partial
}
