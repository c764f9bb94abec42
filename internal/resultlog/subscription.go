package resultlog

import (
	"context"
	"slices"
)

// A Subscription is one reader of a [Follower]. It is for one goroutine.
type Subscription struct {
	follower *Follower
	apps     []string
	at       Cursor
	changed  <-chan struct{} // of the follower, from before the last Next or Ready
}

// add adds apps.
func (s *Subscription) add(apps []string, from Cursor) {
	f := s.follower
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, app := range apps {
		if slices.Contains(s.apps, app) {
			continue
		}
		s.apps = append(s.apps, app)
		if at, ok := from[app]; ok {
			s.at[app] = at
		}
		if f.apps[app] == nil {
			f.apps[app] = new(tail)
		}
		f.apps[app].subscriptions++
	}
	if !f.running && len(f.apps) > 0 && f.ctx.Err() == nil {
		f.running = true
		f.done.Add(1)
		go f.run()
	}
}

// AddNew adds apps that had no result before: all their results are new.
func (s *Subscription) AddNew(apps []string) {
	from := make(Cursor, len(apps))
	for _, app := range apps {
		from[app] = Position{}
	}
	s.add(apps, from)
}

// Close ends the subscription.
func (s *Subscription) Close() {
	f := s.follower
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, app := range s.apps {
		if t := f.apps[app]; t.subscriptions > 1 {
			t.subscriptions--
		} else {
			delete(f.apps, app)
		}
	}
	s.apps = nil
}

// Cursor returns the position after the entries that Next has returned. It changes with Next.
func (s *Subscription) Cursor() Cursor { return s.at }

// Changed is closed when Next has something new.
func (s *Subscription) Changed() <-chan struct{} { return s.changed }

// Ready waits until each app has a position, or ctx ends.
func (s *Subscription) Ready(ctx context.Context) error {
	for {
		s.changed = s.follower.nextChange()
		missing := false
		for _, app := range s.apps {
			if _, known := s.at[app]; !known {
				s.recent(app)
				_, known = s.at[app]
				missing = missing || !known
			}
		}
		if !missing {
			return nil
		}
		select {
		case <-s.changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Next returns further entries of one app, if there are any, and a gap before them, if there is
// one. An app follows the other, so that none waits for long.
func (s *Subscription) Next(ctx context.Context) (entries []Entry, gaps []Gap, err error) {
	s.changed = s.follower.nextChange() // before anything is looked at
	for range s.apps {
		app := s.apps[0]
		s.apps = append(s.apps[1:], app)
		entries, start, covered := s.recent(app)
		if !covered {
			if entries, gaps, err = s.older(ctx, app, start); err != nil {
				return nil, nil, err
			}
		}
		if len(entries) > 0 || len(gaps) > 0 {
			return entries, gaps, nil
		}
	}
	return nil, nil, nil
}

// recent returns the entries of an app from its tail; covered is false if they go back to start
// only, and the position is before that. An app without a position gets the end of the tail.
func (s *Subscription) recent(app string) (entries []Entry, start Position, covered bool) {
	f := s.follower
	f.mu.Lock()
	defer f.mu.Unlock()
	t := f.apps[app]
	if !t.ready {
		return nil, Position{}, true // later
	}
	at, known := s.at[app]
	if !known {
		s.at[app] = t.end
		return nil, t.start, true
	}
	if at.compare(t.start) < 0 {
		return nil, t.start, false
	}
	first, _ := slices.BinarySearchFunc(t.entries, at, func(e Entry, at Position) int {
		if e.At.compare(at) <= 0 {
			return -1
		}
		return 1
	})
	if at.compare(t.end) < 0 {
		s.at[app] = t.end
	}
	return t.entries[first:], t.start, true
}

// older reads entries of an app that its tail does not have, which begins after start.
func (s *Subscription) older(ctx context.Context, app string, start Position) ([]Entry, []Gap, error) {
	page, err := s.follower.reader.Read(ctx, Query{
		Apps: []string{app}, From: Cursor{app: s.at[app]}, Limit: pageEntries, Scan: pageEntries,
	})
	if err != nil {
		return nil, nil, err
	}
	s.at[app] = page.Cursor[app]
	if !page.More && s.at[app].compare(start) < 0 {
		s.at[app] = start // nothing is left before it
	}
	return page.Entries, page.Gaps, nil
}
