package pushes

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/wxcourier/wxcourier/internal/ledger"
)

const (
	// earlyFor is how long a receipt is kept whose message is not known. The answer to a send is mostly
	// recorded within seconds; a message whose worker died ends as unknown some minutes later.
	earlyFor = time.Hour
	// earlyPoll is how often a gateway looks for early receipts that another gateway has stored.
	earlyPoll = 10 * time.Second
	// earlyPage is how many early receipts of an app are looked at in a step.
	earlyPage = 512
	// earlyRetry is the pause after Redis did not answer.
	earlyRetry = time.Second
)

// earlyWait returns how long after a look for its message the next one follows: seconds in the beginning,
// then longer.
func earlyWait(age time.Duration) time.Duration { return min(max(age/2, time.Second), time.Minute) }

func (r receipt) age(now time.Time) time.Duration { return now.Sub(time.Unix(r.Came, 0)) }

// keep keeps receipts whose messages are not known, and sets when they are looked for next.
func (s *Receipts) keep(ctx context.Context, app string, open []receipt) error {
	if len(open) == 0 {
		return nil
	}
	early := s.early(open)
	dropped, err := s.ledger.KeepEarly(ctx, app, early)
	if isReply(err) { // another program has overwritten the key: the pushes that follow must not wait for it
		s.log.Warn("receipts that came before their messages are dropped", slog.String("app", app), slog.Int("receipts", len(open)), slog.Any("err", err))
		dropped, err = int64(len(open)), nil
	}
	if err != nil {
		return err
	}
	for range dropped {
		s.OnDropped(app, DroppedUnmatched)
	}
	s.due(app, early[0].Due)
	return nil
}

// early returns receipts as the ledger keeps them, with the time of the next look for their messages.
func (s *Receipts) early(open []receipt) []ledger.EarlyReceipt {
	now := s.Now()
	early := make([]ledger.EarlyReceipt, len(open))
	for i, r := range open {
		text := r.kept
		if text == "" {
			encoded, _ := json.Marshal(r) //nolint:errchkjson // cannot fail on strings and numbers
			text = string(encoded)
		}
		early[i] = ledger.EarlyReceipt{Text: text, Due: now.Add(earlyWait(r.age(now)))}
	}
	return early
}

// due makes Run look at an app's early receipts at a time, or before it.
func (s *Receipts) due(app string, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if next, ok := s.next[app]; ok && next.Before(at) {
		return
	}
	s.next[app] = at
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Run looks for the messages of early receipts until ctx ends.
func (s *Receipts) Run(ctx context.Context) {
	failed := false
	for ctx.Err() == nil {
		wait, err := s.Retry(ctx)
		if err != nil {
			if !failed && ctx.Err() == nil {
				s.log.Warn("early receipts could not be looked at", slog.Any("err", err))
			}
			wait = earlyRetry
		}
		failed = err != nil
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-s.wake:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// Retry looks for the messages of the early receipts that are due, and returns when others will be. It
// is a step of Run.
func (s *Receipts) Retry(ctx context.Context) (wait time.Duration, err error) {
	now := s.Now()
	apps := s.dueApps(now)
	if len(apps) > 0 {
		var faults []error
		early, err := s.ledger.EarlyReceipts(ctx, apps, earlyPage)
		if err != nil {
			faults = append(faults, err)
		}
		for _, app := range apps { // an error of one app does not stop the others
			if err := s.retryApp(ctx, app, early[app], now); err != nil {
				faults = append(faults, err)
			}
		}
		if len(faults) > 0 {
			return 0, errors.Join(faults...)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	wait = earlyPoll
	for _, next := range s.next {
		wait = min(wait, max(next.Sub(now), 0))
	}
	return wait, nil
}

// dueApps returns the apps whose early receipts are to be looked at now. It forgets apps that are no
// longer configured.
func (s *Receipts) dueApps(now time.Time) []string {
	all := s.Apps()
	s.mu.Lock()
	defer s.mu.Unlock()
	next := make(map[string]time.Time, len(all))
	var due []string
	for _, app := range all {
		at, known := s.next[app]
		if !known || !at.After(now) {
			due, at = append(due, app), now.Add(earlyPoll)
		}
		next[app] = at
	}
	s.next = next
	return due
}

// retryApp looks for the messages of those early receipts of an app that are due.
func (s *Receipts) retryApp(ctx context.Context, app string, early []ledger.EarlyReceipt, now time.Time) error {
	due := slices.IndexFunc(early, func(e ledger.EarlyReceipt) bool { return e.Due.After(now) })
	switch {
	case due >= 0 && early[due].Due.Before(now.Add(earlyPoll)):
		s.due(app, early[due].Due)
	case due < 0:
		if due = len(early); due == earlyPage {
			s.due(app, now) // there are more
		}
	}
	var receipts []receipt
	var bad []string
	for _, e := range early[:due] {
		r := receipt{kept: e.Text}
		if json.Unmarshal([]byte(e.Text), &r) != nil || !ledger.ValidMsgID(r.MsgID) {
			bad = append(bad, e.Text)
			continue
		}
		receipts = append(receipts, r)
	}
	if len(receipts) == 0 && len(bad) == 0 {
		return nil
	}
	open, err := s.join(ctx, app, receipts)
	if err != nil {
		return err
	}
	open, err = s.resolve(ctx, app, open, now)
	if err != nil {
		return err
	}
	return s.keepOrDrop(ctx, app, receipts, open, bad, now)
}

// keepOrDrop keeps those early receipts that are still open and not too old, and drops the others.
func (s *Receipts) keepOrDrop(ctx context.Context, app string, all, open []receipt, ended []string, now time.Time) error {
	var stay []receipt
	stays, old := make(map[string]bool), make(map[string]bool)
	for _, r := range open {
		if r.age(now) < earlyFor {
			stay, stays[r.kept] = append(stay, r), true
		} else {
			old[r.kept] = true
		}
	}
	for _, r := range all {
		if !stays[r.kept] {
			ended = append(ended, r.kept)
		}
	}
	for chunk := range slices.Chunk(ended, receiptsAtOnce) {
		removed, err := s.ledger.DropEarly(ctx, app, chunk)
		if err != nil {
			return err
		}
		if int(removed) < len(chunk) {
			continue // another gateway looks at them as well, and counts them
		}
		for _, text := range chunk {
			if old[text] {
				s.OnDropped(app, DroppedUnmatched)
			}
		}
	}
	if len(stay) == 0 {
		return nil
	}
	early := s.early(stay)
	s.due(app, early[0].Due)
	return s.ledger.PostponeEarly(ctx, app, early)
}
