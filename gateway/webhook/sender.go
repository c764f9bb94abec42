package webhook

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/ledger"
)

const (
	tendInterval   = time.Minute      // of ledger.TendReaders
	gaugesInterval = 15 * time.Second // of the lag in the metrics
	settleTimeout  = 5 * time.Second  // of the commands that record what became of a call
)

// endpointsKey is a hash of what concerns an endpoint and not one app: `<name>:since`, the time (ms)
// since which it gets the results of all apps, and `<name>:gone`, "<fingerprint> <ms>", which is
// there while an answer 410 disables it.
const endpointsKey = "wxcourier:webhooks"

// target is an endpoint with its connections.
type target struct {
	Endpoint
	client *client
	slots  chan struct{} // one per call at a time
}

func newTarget(e Endpoint, timeout time.Duration) (*target, error) {
	c, err := newClient(e, timeout)
	if err != nil {
		return nil, err
	}
	return &target{Endpoint: e, client: c, slots: make(chan struct{}, connsPerTarget)}, nil
}

// Run delivers until ctx ends, and then waits for the calls under way, some seconds at most. It does
// not end with an error of Redis: it logs a warning and goes on.
func (s *Sender) Run(ctx context.Context) error {
	defer s.turns.Wait()
	t := time.NewTicker(s.tuning.poll)
	defer t.Stop()
	for {
		if err := s.look(ctx); err != nil && ctx.Err() == nil && !s.down {
			s.deps.Log.Warn("webhooks wait for Redis", "err", err)
			s.down = true
		} else if err == nil {
			s.down = false
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		case <-s.changed:
		}
	}
}

// look starts a turn for each endpoint and app that has something to deliver.
func (s *Sender) look(ctx context.Context) error {
	targets, version := s.current()
	if len(targets) == 0 {
		return nil
	}
	if version != s.tendedBy {
		since, err := s.startTimes(ctx, targets)
		if err != nil {
			return err
		}
		clear(s.tended)
		s.since, s.tendedBy, s.looked = since, version, time.Time{}
	}
	if err := s.findApps(ctx, targets); err != nil {
		return err
	}
	gone, err := s.disabled(ctx, targets)
	if err != nil {
		return err
	}
	if err := s.tend(ctx, targets, gone); err != nil {
		return err
	}
	last, cursors, err := ledger.Positions(ctx, s.deps.Redis, s.apps)
	if err != nil {
		return err
	}
	for i, app := range s.apps {
		for _, t := range targets {
			cursor, known := cursors[i][t.Name]
			if known && !gone[t.Name] && t.WantsApp(app) && last[i] != "" && ledger.EntryLess(cursor, last[i]) {
				s.start(ctx, t, app)
			}
		}
	}
	return s.measure(ctx, targets)
}

// findApps reads the apps now and then.
func (s *Sender) findApps(ctx context.Context, targets []*target) error {
	if time.Since(s.looked) < s.tuning.apps {
		return nil
	}
	apps, err := s.deps.Redis.SMembers(ctx, ledger.AppsKey).Result()
	if err != nil {
		return fmt.Errorf("list the apps: %w", err)
	}
	for _, t := range targets {
		apps = append(apps, t.Apps...)
	}
	slices.Sort(apps)
	s.apps, s.looked = slices.DeleteFunc(slices.Compact(apps), func(app string) bool {
		return !slices.ContainsFunc(targets, func(t *target) bool { return t.WantsApp(app) })
	}), time.Now()
	return nil
}

// disabled returns the endpoints that an answer 410 has disabled, by name. It enables those whose
// URL has changed since.
func (s *Sender) disabled(ctx context.Context, targets []*target) (map[string]bool, error) {
	fields, err := s.deps.Redis.HGetAll(ctx, endpointsKey).Result()
	if err != nil {
		return nil, fmt.Errorf("read the endpoints: %w", err)
	}
	gone := make(map[string]bool)
	for _, t := range targets {
		value, ok := fields[t.Name+":gone"]
		if !ok {
			continue
		}
		if print, _, _ := strings.Cut(value, " "); print == t.fingerprint() {
			gone[t.Name] = true
		} else if err := s.deps.Redis.HDel(ctx, endpointsKey, t.Name+":gone").Err(); err != nil {
			return nil, fmt.Errorf("enable the endpoint: %w", err)
		}
	}
	return gone, nil
}

// tend creates the readers of new apps and endpoints, and keeps the others in use.
func (s *Sender) tend(ctx context.Context, targets []*target, gone map[string]bool) error {
	for _, app := range s.apps {
		if time.Since(s.tended[app]) < tendInterval {
			continue
		}
		var readers []ledger.ReaderStart
		for _, t := range targets {
			if t.WantsApp(app) {
				readers = append(readers, ledger.ReaderStart{Name: t.Name, Since: s.since[t.Name], Off: gone[t.Name]})
			}
		}
		if err := ledger.TendReaders(ctx, s.deps.Redis, app, s.deps.StreamMaxLen, readers); err != nil {
			return err
		}
		s.tended[app] = time.Now()
	}
	return nil
}

// startTimes returns when the endpoints for all apps were first seen: they get the results of an app that
// comes later from its first one on. An endpoint that names its apps starts with each when it is
// first seen with it.
func (s *Sender) startTimes(ctx context.Context, targets []*target) (map[string]time.Time, error) {
	now, err := s.deps.Redis.Time(ctx).Result()
	if err != nil {
		return nil, fmt.Errorf("read Redis' time: %w", err)
	}
	var all []*target
	for _, t := range targets {
		if len(t.Apps) == 0 {
			all = append(all, t)
		}
	}
	values := make([]*redis.StringCmd, len(all))
	_, err = s.deps.Redis.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, t := range all {
			p.HSetNX(ctx, endpointsKey, t.Name+":since", now.UnixMilli())
			values[i] = p.HGet(ctx, endpointsKey, t.Name+":since")
		}
		return nil
	})
	if err != nil && len(all) > 0 {
		return nil, fmt.Errorf("read the endpoints: %w", err)
	}
	since := make(map[string]time.Time, len(all))
	for i, t := range all {
		ms, _ := strconv.ParseInt(values[i].Val(), 10, 64)
		since[t.Name] = time.UnixMilli(ms)
	}
	return since, nil
}

// start starts a turn, unless one is running, it has to wait, or the endpoint has calls enough.
func (s *Sender) start(ctx context.Context, t *target, app string) {
	who := pair{t.Name, app}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.busy[who] || time.Now().Before(s.waiting[who]) {
		return
	}
	select {
	case t.slots <- struct{}{}:
	default:
		return
	}
	s.busy[who] = true
	delete(s.waiting, who)
	s.turns.Go(func() {
		wait, err := s.turn(ctx, t, app)
		if err != nil && ctx.Err() == nil && !errors.Is(err, ledger.ErrLeaseLost) {
			s.deps.Log.Warn("a webhook was not served", slog.String("webhook", t.Name), slog.String("app", app), slog.Any("err", err))
			wait = s.tuning.poll
		}
		s.ended(t, who, wait)
	})
}

// ended ends a turn.
func (s *Sender) ended(t *target, who pair, wait time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	<-t.slots
	delete(s.busy, who)
	if wait > 0 {
		// Another process, or an operator, may change it earlier.
		s.waiting[who] = time.Now().Add(min(wait, s.tuning.recheck))
	}
	s.signal()
}

// disable records an answer 410.
func (s *Sender) disable(ctx context.Context, t *target) error {
	value := t.fingerprint() + " " + strconv.FormatInt(time.Now().UnixMilli(), 10)
	if err := s.deps.Redis.HSet(ctx, endpointsKey, t.Name+":gone", value).Err(); err != nil {
		return fmt.Errorf("disable the endpoint: %w", err)
	}
	return nil
}
