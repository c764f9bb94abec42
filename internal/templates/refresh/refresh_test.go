package refresh

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/internal/templates"
	"github.com/wxcourier/wxcourier/wechat"
)

const (
	testApp = "wx0123456789abcdef"
	mini    = `{"errcode":0,"errmsg":"ok","data":[{"priTmplId":"S1","title":"发货","content":"商品:{{thing1.DATA}}\n","type":2}]}`
	changed = `{"errcode":0,"errmsg":"ok","data":[{"priTmplId":"S1","title":"发货","content":"商品:{{thing1.DATA}}\n时间:{{time2.DATA}}\n","type":2}]}`
	noList  = `{"errcode":48001,"errmsg":"api unauthorized"}`
	quota   = `{"errcode":45009,"errmsg":"reach max api daily quota limit"}`
)

// world is a WeChat with an answer for each list, a clock, and a log.
type world struct {
	mu      sync.Mutex
	answers map[wechat.Endpoint]string // guarded by mu
	asked   map[wechat.Endpoint]int    // guarded by mu
	failing error                      // guarded by mu
	clock   time.Time
	log     bytes.Buffer
	rdb     redis.UniversalClient
}

func newWorld(rdb redis.UniversalClient) *world {
	return &world{
		rdb: rdb, clock: time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC), asked: make(map[wechat.Endpoint]int),
		answers: map[wechat.Endpoint]string{wechat.EndpointSubscribeTemplates: mini, wechat.EndpointAccountTemplates: noList},
	}
}

func (w *world) call(_ context.Context, _ string, endpoint wechat.Endpoint) (wechat.RawAnswer, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked[endpoint]++
	if w.failing != nil {
		return wechat.RawAnswer{}, w.failing
	}
	return wechat.RawAnswer{Status: 200, Body: []byte(w.answers[endpoint])}, nil
}

func (w *world) refresher() *Refresher {
	return New(w.rdb, w.call, slog.New(slog.NewTextHandler(&w.log, nil)), func() time.Time { return w.clock })
}

func (w *world) registry(t *testing.T) *templates.Registry {
	t.Helper()
	return templates.NewCache(w.rdb, nil).Get(t.Context(), testApp)
}

// due returns when the templates are fetched next.
func (w *world) due(t *testing.T) time.Duration {
	t.Helper()
	score, err := w.rdb.ZScore(t.Context(), templates.DueKey, testApp).Result()
	if err != nil {
		t.Fatal(err)
	}
	return time.Unix(int64(score), 0).Sub(w.clock)
}

// step makes the app due, as a producer does, and looks once.
func (w *world) step(t *testing.T, r *Refresher, mode templates.Mode) {
	t.Helper()
	templates.NewCache(w.rdb, func() time.Time { return w.clock }).Want(t.Context(), testApp)
	r.fetchDue(t.Context(), map[string]App{testApp: {Mode: mode}})
}

// TestRefresh: the first fetch finds the lists that the app has; later ones what changed.
func TestRefresh(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		w, mode := newWorld(rdb), templates.Mode{Check: templates.CheckWarn}
		r := w.refresher()
		r.announce(t.Context(), map[string]App{testApp: {Mode: mode}})
		r.fetchDue(t.Context(), map[string]App{testApp: {Mode: mode}, "wx1111111111111111": {}})
		found := w.registry(t)
		s1 := found.Template(templates.Subscribe, "S1")
		if s1 == nil || s1.Kind != templates.OneTime || len(s1.Fields) != 1 || s1.Fields[0].Label != "商品" || s1.Fields[0].Kind != "thing" {
			t.Fatalf("%+v", found)
		}
		if found.Mode != mode || !found.Has(templates.Subscribe) || found.Has(templates.Account) || found.Lists[templates.Account].Refused != 48001 {
			t.Errorf("%+v", found)
		}
		if kind, known := templates.NewCache(rdb, nil).Kind(testApp, "S1"); kind != templates.OneTime || !known {
			t.Errorf("kind %d, %v", kind, known)
		}
		if due := w.due(t); due != every || w.log.Len() > 0 {
			t.Errorf("due in %v; log %s", due, &w.log)
		}

		w.answers[wechat.EndpointSubscribeTemplates] = changed
		w.step(t, r, mode) // too early
		if n := w.asked[wechat.EndpointSubscribeTemplates]; n != 1 || w.due(t) != early {
			t.Errorf("asked %d times; due in %v", n, w.due(t))
		}
		w.clock = w.clock.Add(early)
		w.step(t, r, mode)
		if len(w.registry(t).Template(templates.Subscribe, "S1").Fields) != 2 || w.asked[wechat.EndpointAccountTemplates] != 1 {
			t.Errorf("%+v; asked %v", w.registry(t), w.asked)
		}
		if log := w.log.String(); strings.Count(log, "message templates changed") != 1 || !strings.Contains(log, "S1: time2 is new") || strings.Contains(log, "时间") {
			t.Error(log)
		}
	})
}

// TestWantedFetchesBecomeRarer: those that find no change. WeChat's limit is low.
func TestWantedFetchesBecomeRarer(t *testing.T) {
	_, rdb := redistest.Mini(t)
	w, mode := newWorld(rdb), templates.Mode{Check: templates.CheckReject}
	r := w.refresher()
	for range 24 * 6 { // a day, in which every ten minutes a message does not fit
		w.step(t, r, mode)
		w.clock = w.clock.Add(early)
	}
	if n := w.asked[wechat.EndpointSubscribeTemplates]; n < 5 || n > 25 {
		t.Errorf("asked %d times a day", n)
	}
	if n := w.asked[wechat.EndpointAccountTemplates]; n != 1 {
		t.Errorf("asked %d times for a list that the app does not have", n)
	}
}

// TestFailures: an error keeps what is known, is shown, and makes the next question later.
func TestFailures(t *testing.T) {
	_, rdb := redistest.Mini(t)
	w, mode := newWorld(rdb), templates.Mode{Check: templates.CheckReject}
	r := w.refresher()
	w.step(t, r, mode)
	w.answers[wechat.EndpointSubscribeTemplates] = quota
	for _, want := range []time.Duration{2 * early, 4 * early, 8 * early, 16 * early, 32 * early, every, every} {
		w.clock = w.clock.Add(every)
		w.step(t, r, mode)
		found := w.registry(t)
		if found.Template(templates.Subscribe, "S1") == nil || !found.Has(templates.Subscribe) || !strings.Contains(found.Lists[templates.Subscribe].Error, "45009") {
			t.Fatalf("%+v", found)
		}
		if due := w.due(t); due != want {
			t.Errorf("due in %v, want %v", due, want)
		}
	}
	w.failing = errors.New("the app is held")
	found, err := r.Refresh(t.Context(), testApp, mode)
	if err != nil || found.Lists[templates.Subscribe].Error != "the app is held" {
		t.Errorf("%+v, %v", found, err)
	}
}

// TestForcedRefreshKeepsTheMode: an operator's process, which may have another configuration than the
// workers, fetches the lists and nothing else.
func TestForcedRefreshKeepsTheMode(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		w, mode := newWorld(rdb), templates.Mode{Check: templates.CheckReject, Fix: true}
		r := w.refresher()
		w.step(t, r, mode)
		w.answers[wechat.EndpointSubscribeTemplates] = changed
		found, err := r.Refresh(t.Context(), testApp, templates.Mode{})
		if err != nil || found.Mode != mode || len(found.Template(templates.Subscribe, "S1").Fields) != 2 || w.registry(t).Mode != mode {
			t.Errorf("%+v, %v", found, err)
		}
	})
}

// TestHeldAppIsAskedSoon: while an app is held WeChat is not asked, and the pause does not grow.
func TestHeldAppIsAskedSoon(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		w, mode := newWorld(rdb), templates.Mode{Check: templates.CheckReject}
		r := w.refresher()
		w.failing = ErrHeld
		for range 6 {
			w.step(t, r, mode)
			if due := w.due(t); due != early {
				t.Fatalf("due in %v", due)
			}
			w.clock = w.clock.Add(early)
		}
		w.failing = nil
		w.step(t, r, mode)
		if !w.registry(t).Has(templates.Subscribe) {
			t.Error("no list after the hold")
		}
	})
}

// TestOneProcessAsks: of many, at the same time; an operator hears that another one does.
func TestOneProcessAsks(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		w, mode := newWorld(rdb), templates.Mode{Fix: true}
		var all sync.WaitGroup
		for range 8 {
			r := w.refresher()
			all.Go(func() { w.step(t, r, mode) })
		}
		all.Wait()
		if n := w.asked[wechat.EndpointSubscribeTemplates]; n != 1 {
			t.Errorf("asked %d times", n)
		}
		unlock, err := w.refresher().lock(t.Context(), testApp)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.refresher().Refresh(t.Context(), testApp, mode); !errors.Is(err, ErrBusy) {
			t.Errorf("the error is %v", err)
		}
		unlock()
		if _, err := w.refresher().Refresh(t.Context(), testApp, mode); err != nil {
			t.Error(err)
		}
	})
}

// TestModesFollowTheConfiguration: also to off, after which nothing is asked.
func TestModesFollowTheConfiguration(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		w := newWorld(rdb)
		r := w.refresher()
		ctx, end := context.WithCancel(t.Context())
		defer end()
		var mu sync.Mutex
		mode, notify := templates.Mode{Check: templates.CheckReject}, make(chan struct{}, 1)
		var running sync.WaitGroup
		running.Go(func() {
			r.Run(ctx, func() map[string]App {
				mu.Lock()
				defer mu.Unlock()
				return map[string]App{testApp: {Mode: mode}}
			}, notify)
		})
		for _, next := range []templates.Mode{{Check: templates.CheckReject}, {Check: templates.CheckWarn, Fix: true}, {}} {
			mu.Lock()
			mode = next
			mu.Unlock()
			notify <- struct{}{}
			redistest.Until(t, 20*time.Second, "the mode", func() bool {
				found := w.registry(t)
				return found != nil && found.Mode == next && found.Template(templates.Subscribe, "S1") != nil
			})
		}
		redistest.Until(t, 20*time.Second, "nothing due", func() bool {
			n, err := rdb.ZCard(ctx, templates.DueKey).Result()
			return err == nil && n == 0
		})
		end()
		running.Wait()
	})
}
