package worker_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/sandbox"
	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/worker"
)

// hookCalls records the calls of the hooks of a rig.
type hookCalls struct {
	mu     sync.Mutex
	byTask map[string][]string // guarded by mu; by task id
}

func (l *hookCalls) add(id, what string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.byTask == nil {
		l.byTask = make(map[string][]string)
	}
	l.byTask[id] = append(l.byTask[id], what)
}

func (l *hookCalls) of(id string) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.byTask[id])
}

func (l *hookCalls) hooks() worker.Hooks {
	return worker.Hooks{
		OnSending: func(_ context.Context, s worker.Sending) error {
			l.add(s.ID, "sending "+strings.Repeat("i", s.Attempt))
			return nil
		},
		OnNotSent: func(s worker.Sending) { l.add(s.ID, "returned "+strings.Repeat("i", s.Attempt)) },
		OnResult:  func(r tasks.Result) { l.add(r.ID, string(r.Outcome)) },
	}
}

func TestHookCalls(t *testing.T) {
	onEach(t, sandbox.Options{}, func(t *testing.T, r *rig) {
		var l hookCalls
		r.hooks = l.hooks()
		r.replica(nil)
		template := func(id, openid string) tasks.Envelope {
			return tasks.Envelope{Type: tasks.TypeTemplate, ID: id, Body: []byte(`{"touser":"` + openid + `","template_id":"T1","data":{"thing1":{"value":"x"}}}`)}
		}
		for _, e := range []tasks.Envelope{
			message("plain", "o1"), message("busy", "busy-o2"), message("lost", "lost-o3"), template("again", "lost-o4"),
			{Type: tasks.TypeScheme, ID: "link", Body: []byte(`{"jump_wxa":{"path":"pages/index/index"}}`)},
		} {
			r.submit(e)
		}
		for id, want := range map[string]string{
			"plain": "sending i, accepted",
			"busy":  "sending i, returned i, sending ii, accepted",
			"lost":  "sending i, unknown",
			"again": "sending i, sending ii, accepted", // WeChat may have taken the first request
			"link":  "accepted",                        // repeating it is safe, so OnSending is not called
		} {
			r.outcome(id)
			redistest.Until(t, 10*time.Second, id+": the calls are "+want, func() bool { return strings.Join(l.of(id), ", ") == want })
		}
	})
}

// TestOnSendingComesFirst: OnSending is called after the fence was set and before the request
// is written. While it fails, no request is written.
func TestOnSendingComesFirst(t *testing.T) {
	onEach(t, sandbox.Options{}, func(t *testing.T, r *rig) {
		var l hookCalls
		r.hooks = l.hooks()
		failures := make(chan error, 2)
		failures <- errors.New("the disk is full")
		failures <- errors.New("the disk is full")
		r.hooks.OnSending = func(ctx context.Context, s worker.Sending) error {
			fence, err := r.rdb.HGet(ctx, ledger.TaskKey(s.App, s.ID), "fence").Result()
			if err != nil || fence == "" || s.Attempt != 1 || s.Since.IsZero() || s.Type != tasks.TypeSubscribe {
				t.Errorf("%+v, fence %q, %v", s, fence, err)
			}
			if n := r.wx.Count(sandbox.Filter{OpenID: "o1"}); n != 0 {
				t.Errorf("%d calls before OnSending", n)
			}
			select {
			case err := <-failures:
				return err
			default:
				return nil
			}
		}
		r.replica(nil)
		r.submit(message("a", "o1"))
		got := r.outcome("a")
		if got.Outcome != tasks.OutcomeAccepted || got.Attempts != 1 || len(failures) != 0 {
			t.Errorf("%+v, %d failures left", got, len(failures))
		}
		if n := r.wx.Count(sandbox.Filter{OpenID: "o1"}); n != 1 {
			t.Errorf("%d calls", n)
		}
		redistest.Until(t, 10*time.Second, "OnResult is called", func() bool { return strings.Join(l.of("a"), ", ") == "accepted" })
	})
}
