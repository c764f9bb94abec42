package worker_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/hold"
	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/sandbox"
	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/wechat"
	"github.com/wxcourier/wxcourier/worker"
)

// refuse adds a fault to the sandbox, for subscribe messages where it names no path.
func (r *rig) refuse(f sandbox.Fault) (id int) {
	r.t.Helper()
	if f.Path == "" {
		f.Path = subscribePath
	}
	id, err := r.wx.AddFault(f)
	if err != nil {
		r.t.Fatal(err)
	}
	return id
}

// subscribeKeys returns the prefix of asynq's keys of the queue of subscribe messages.
func subscribeKeys() string {
	return "asynq:{" + tasks.QueueName(app, tasks.TypeSubscribe, tasks.Urgent) + "}:"
}

// waiting returns the numbers of subscribe messages that are pending and in the retry set.
func (r *rig) waiting() (pending, retry int64) {
	r.t.Helper()
	prefix := subscribeKeys()
	return r.rdb.LLen(r.t.Context(), prefix+"pending").Val(), r.rdb.ZCard(r.t.Context(), prefix+"retry").Val()
}

// becomesPending waits until so many subscribe messages are pending, and none is active or in
// the retry set.
func (r *rig) becomesPending(n int64) {
	r.t.Helper()
	redistest.Until(r.t, 10*time.Second, fmt.Sprintf("%d tasks are pending", n), func() bool {
		pending, retry := r.waiting()
		return pending == n && retry == 0 && r.rdb.LLen(r.t.Context(), subscribeKeys()+"active").Val() == 0
	})
}

// TestUnholdResumesTheRefusedTask: a task that was refused for the day's quota, or for a
// missing capability, waits in its queue, and is sent as soon as the hold is lifted.
func TestUnholdResumesTheRefusedTask(t *testing.T) {
	for _, code := range []int{45009, 48001} {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			onEach(t, noOptions, func(t *testing.T, r *rig) {
				r.refuse(sandbox.Fault{ErrCode: code, Count: 1})
				p := r.replica(nil)
				r.submit(message("met", "a"))
				r.held(tasks.TypeSubscribe)
				r.becomesPending(1)
				r.lanes(p, 0)
				if got, err := r.client.Result(t.Context(), app, "met"); err != nil || got.State != tasks.StateWaiting {
					t.Errorf("%+v, %v", got, err)
				}
				lifted := time.Now()
				r.unhold(tasks.TypeSubscribe)
				got := r.outcome("met")
				if got.Outcome != tasks.OutcomeAccepted || got.Attempts != 2 {
					t.Errorf("%s %s after %d attempts", got.Outcome, got.Reason, got.Attempts)
				}
				if took := got.FinishedAt.Sub(lifted); took > 3*time.Second { // a second, on a machine that is not busy
					t.Errorf("the task was sent %v after the hold was lifted", took)
				}
			})
		})
	}
}

// TestOrderAfterAHold: a task that was refused for its pace is sent before the tasks that
// were enqueued later; a task that probed a lane is sent after them.
func TestOrderAfterAHold(t *testing.T) {
	for code, first := range map[int]string{45009: "met", 48001: "later"} {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			onEach(t, noOptions, func(t *testing.T, r *rig) {
				r.refuse(sandbox.Fault{ErrCode: code, Count: 1})
				r.submit(message("met", "a"))
				r.submit(message("later", "b"))
				r.replica(map[string]ratelimit.Limit{tasks.TypeSubscribe: {Concurrency: 1}}) // one after the other; a permit for an instant could be too late on a busy machine
				r.held(tasks.TypeSubscribe)
				r.becomesPending(2)
				r.unhold(tasks.TypeSubscribe)
				met, later := r.outcome("met"), r.outcome("later")
				if before := met.FinishedAt.Before(later.FinishedAt); before != (first == "met") {
					t.Errorf("met at %v, later at %v", met.FinishedAt, later.FinishedAt)
				}
			})
		})
	}
}

// TestAnOperatorsHoldDuringACall: an operator holds the lane for 30 days during a call that is
// answered 44990. The operator's hold is not changed, and the task is sent when it is lifted.
func TestAnOperatorsHoldDuringACall(t *testing.T) {
	onEach(t, noOptions, func(t *testing.T, r *rig) {
		r.refuse(sandbox.Fault{ErrCode: 44990, Count: 1})
		since, until := time.Now().Add(-time.Minute), time.Now().Add(30*24*time.Hour)
		var once sync.Once
		r.hooks.OnSending = func(ctx context.Context, _ worker.Sending) (err error) { // sets the hold without a message
			once.Do(func() {
				_, err = r.rdb.TxPipelined(ctx, func(tx redis.Pipeliner) error {
					tx.HSet(ctx, "wxcourier:{"+app+"}:hold:"+tasks.TypeSubscribe, "reason", "legal", "code", 0,
						"by", "somebody@somewhere", "since", since.UnixMilli(), "until", until.UnixMilli(), "tries", 1)
					tx.SAdd(ctx, "wxcourier:{"+app+"}:holds", tasks.TypeSubscribe)
					return nil
				})
			})
			return err
		}
		r.replica(nil)
		r.submit(message("one", "a"))
		redistest.Until(t, 10*time.Second, "the call is refused", func() bool { return r.wx.Count(sandbox.Filter{ErrCodes: []int{44990}}) == 1 })
		r.becomesPending(1)
		want := hold.Hold{
			App: app, Scope: tasks.TypeSubscribe, Reason: "legal", By: "somebody@somewhere", Tries: 1,
			Since: time.UnixMilli(since.UnixMilli()), Until: time.UnixMilli(until.UnixMilli()),
		}
		if got := r.held(tasks.TypeSubscribe); got != want {
			t.Errorf("the hold is %+v", got)
		}
		r.unhold(tasks.TypeSubscribe)
		if got := r.outcome("one"); got.Outcome != tasks.OutcomeAccepted {
			t.Errorf("%+v", got)
		}
	})
}

// TestTaskIsDelayedWhenTheHoldCannotBeSet: Redis refuses to set the hold. A task that WeChat
// refused until midnight is retried after about half a minute.
func TestTaskIsDelayedWhenTheHoldCannotBeSet(t *testing.T) {
	m, _ := redistest.Mini(t)
	r := newRig(t, m.Addr(), noOptions)
	r.refuse(sandbox.Fault{ErrCode: 45009, Count: 1})
	rdb := r.newRedis()
	rdb.AddHook(noHolds{})
	p, closeParts := r.unstarted(rdb, nil)
	defer closeParts()
	ctx, cancel := context.WithCancel(t.Context())
	p.cancel = cancel
	go func() { p.done <- p.Run(ctx) }()
	defer func() {
		if err := p.stop(); err != nil {
			t.Error(err)
		}
	}()
	r.submit(message("one", "a"))
	redistest.Until(t, 10*time.Second, "the task is in the retry set", func() bool {
		_, retry := r.waiting()
		return retry == 1
	})
	retries := r.rdb.ZRangeWithScores(t.Context(), subscribeKeys()+"retry", 0, -1).Val()
	if due := time.Until(time.Unix(int64(retries[0].Score), 0)); due < 20*time.Second || due > 32*time.Second {
		t.Errorf("the task is due in %v", due)
	}
	if n := r.wx.Count(sandbox.Filter{Path: subscribePath}); n != 1 {
		t.Errorf("%d calls", n)
	}
}

// noHolds fails the script that sets holds, as a Redis without memory does.
type noHolds struct{}

func (noHolds) DialHook(next redis.DialHook) redis.DialHook { return next }
func (noHolds) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (noHolds) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if args := cmd.Args(); len(args) > 4 && args[4] == "wxcourier:{"+app+"}:holds" {
			cmd.SetErr(errors.New("OOM command not allowed"))
			return cmd.Err()
		}
		return next(ctx, cmd)
	}
}

// TestHoldsUseTheClockOfRedis: a hold has the same length whether the replica's clock is
// behind that of Redis or ahead of it.
func TestHoldsUseTheClockOfRedis(t *testing.T) {
	for name, skew := range map[string]time.Duration{"behind": 2 * time.Second, "ahead": -time.Hour} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, _ := redistest.Mini(t)
			ctx, stop := context.WithCancel(t.Context())
			done := make(chan struct{})
			m.SetTime(time.Now().Add(skew))
			go func() {
				defer close(done)
				for tick := time.NewTicker(5 * time.Millisecond); ctx.Err() == nil; <-tick.C {
					m.SetTime(time.Now().Add(skew))
				}
			}()
			defer func() { stop(); <-done }()
			r := newRig(t, m.Addr(), noOptions)
			r.refuse(sandbox.Fault{ErrCode: 44990, Count: 1})
			r.replica(nil)
			began := time.Now()
			r.submit(message("one", "a"))
			r.held(tasks.TypeSubscribe)
			if got := r.outcome("one"); got.Outcome != tasks.OutcomeAccepted || time.Since(began) < time.Second {
				t.Errorf("%s after %v", got.Outcome, time.Since(began))
			}
		})
	}
}

// TestABadTaskHoldsNoApp: WeChat refuses the token for one message and takes it for all
// others. The app is not held; the attempts of the message count, and it fails.
func TestABadTaskHoldsNoApp(t *testing.T) {
	onEach(t, noOptions, func(t *testing.T, r *rig) {
		r.config.Attempts = 2
		const customPath = "/cgi-bin/message/custom/send"
		r.refuse(sandbox.Fault{ErrCode: 40001, Path: customPath, OpenID: "bad"})
		r.replica(nil)
		r.submit(addressed(tasks.TypeCustom, "bad", "bad"))
		for i := 0; ; i++ {
			r.submit(message(fmt.Sprintf("m%d", i), fmt.Sprintf("o%d", i)))
			if got := r.outcome(fmt.Sprintf("m%d", i)); got.Outcome != tasks.OutcomeAccepted {
				t.Errorf("%+v", got)
			}
			r.submit(addressed(tasks.TypeCustom, fmt.Sprintf("c%d", i), fmt.Sprintf("o%d", i)))
			if got := r.outcome(fmt.Sprintf("c%d", i)); got.Outcome != tasks.OutcomeAccepted {
				t.Errorf("%+v", got)
			}
			bad, err := r.client.Result(t.Context(), app, "bad")
			if err != nil {
				t.Fatal(err)
			}
			if bad.Outcome == "" {
				continue
			}
			if bad.Outcome != tasks.OutcomeFailed || bad.Reason != "attempts_exhausted" || bad.ErrCode != 40001 || bad.Attempts != 2 {
				t.Errorf("%+v", bad)
			}
			break
		}
		for _, scope := range []string{hold.WholeApp, tasks.TypeCustom} {
			if h, _, err := r.holds().Get(t.Context(), app, scope); err != nil || h.Tries != 0 {
				t.Errorf("%s was held: %+v, %v", scope, h, err)
			}
		}
	})
}

// TestARefusedTokenHoldsItsLane: WeChat takes the token for every API but one. Only the lane
// of that API is held.
func TestARefusedTokenHoldsItsLane(t *testing.T) {
	onEach(t, noOptions, func(t *testing.T, r *rig) {
		r.refuse(sandbox.Fault{ErrCode: 40001})
		r.replica(nil)
		r.submitMany(5)
		if hold := r.held(tasks.TypeSubscribe); hold.Reason != "token_rejected" || hold.Code != 40001 {
			t.Errorf("%+v", hold)
		}
		r.submit(addressed(tasks.TypeCustom, "other", "o1"))
		if got := r.outcome("other"); got.Outcome != tasks.OutcomeAccepted {
			t.Errorf("%+v", got)
		}
		if h, _, err := r.holds().Get(t.Context(), app, hold.WholeApp); err != nil || h.Tries != 0 {
			t.Errorf("the app was held: %+v, %v", h, err)
		}
	})
}

// TestATokenRefusedEverywhereHoldsTheApp: no API takes the token. The app is held, and no
// attempt counts as failed.
func TestATokenRefusedEverywhereHoldsTheApp(t *testing.T) {
	onEach(t, noOptions, func(t *testing.T, r *rig) {
		for _, path := range []string{subscribePath, quotaPath} {
			r.refuse(sandbox.Fault{ErrCode: 40001, Path: path})
		}
		r.replica(nil)
		r.submitMany(5)
		if hold := r.held(hold.WholeApp); hold.Reason != "token_rejected" || hold.Code != 40001 {
			t.Errorf("%+v", hold)
		}
		r.becomesPending(5)
		r.wx.ClearFaults()
		r.unhold(hold.WholeApp)
		for i := range 5 {
			if got := r.outcome(fmt.Sprintf("m%d", i)); got.Outcome != tasks.OutcomeAccepted {
				t.Errorf("%+v", got)
			}
		}
	})
}

// endHold makes a hold expire. Its record keeps the tries.
func (r *rig) endHold(scope string) {
	r.t.Helper()
	record := "wxcourier:{" + app + "}:hold:" + scope
	if err := r.rdb.HSet(r.t.Context(), record, "until", time.Now().Add(-time.Second).UnixMilli()).Err(); err != nil {
		r.t.Fatal(err)
	}
	if err := r.rdb.Publish(r.t.Context(), ledger.WakeChannel, hold.Message(app)).Err(); err != nil {
		r.t.Fatal(err)
	}
}

// TestAnUnlistedCodeIsProbed: a lane that gets the same unlisted code several times in a row
// is held, and probed by one call at a time. The tasks of a backlog do not fail by it, the
// log reports the missing row once, and the lane continues after a success.
func TestAnUnlistedCodeIsProbed(t *testing.T) {
	const unlisted, n = 61999, 40
	if wechat.Classify(subscribePath, unlisted) != wechat.ClassUnlisted {
		t.Fatal("the code is listed: choose another one")
	}
	onEach(t, sandbox.Options{Latency: 20 * time.Millisecond}, func(t *testing.T, r *rig) {
		r.config.Attempts = 3
		r.refuse(sandbox.Fault{ErrCode: unlisted})
		calls := func() int { return r.wx.Count(sandbox.Filter{Path: subscribePath}) }
		r.submitMany(n)
		r.replica(map[string]ratelimit.Limit{tasks.TypeSubscribe: {PerSecond: 500, Concurrency: 8}})
		hold := r.held(tasks.TypeSubscribe)
		if hold.Reason != "unlisted_code" || hold.Code != unlisted || hold.Tries != 1 {
			t.Errorf("%+v", hold)
		}
		for tries := 2; tries < 5; tries++ {
			r.becomesIdle()
			before := calls()
			r.endHold(tasks.TypeSubscribe)
			redistest.Until(t, 10*time.Second, "the lane is held again", func() bool {
				h, active, err := r.holds().Get(t.Context(), app, tasks.TypeSubscribe)
				return err == nil && active && h.Tries == tries
			})
			r.becomesIdle()
			if probes := calls() - before; probes != 1 {
				t.Errorf("%d calls probed the lane", probes)
			}
			now := r.held(tasks.TypeSubscribe)
			if longer := now.Until.Sub(hold.Until); longer < time.Minute {
				t.Errorf("hold %d ends only %v later", tries, longer)
			}
			hold = now
		}
		if warned := strings.Count(r.log.String(), fmt.Sprintf("errcode=%d", unlisted)); warned == 0 {
			t.Error("the log does not name the code")
		}
		if n := strings.Count(r.log.String(), "has no row in the code table"); n != 1 {
			t.Errorf("the missing row was logged %d times, want 1", n)
		}
		r.wx.ClearFaults()
		r.unhold(tasks.TypeSubscribe)
		for i := range n {
			if got := r.outcome(fmt.Sprintf("m%d", i)); got.Outcome != tasks.OutcomeAccepted {
				t.Errorf("m%d: %s %s", i, got.Outcome, got.Reason)
			}
		}
	})
}

// becomesIdle waits until no subscribe message is active.
func (r *rig) becomesIdle() {
	r.t.Helper()
	redistest.Until(r.t, 10*time.Second, "no task is active", func() bool {
		return r.rdb.LLen(r.t.Context(), subscribeKeys()+"active").Val() == 0
	})
}
