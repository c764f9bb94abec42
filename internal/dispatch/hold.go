package dispatch

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/wxcourier/wxcourier/internal/hold"
)

// unheldPause bounds the delay of a task whose hold could not be set. Only the delay keeps
// the task from being called again at once, and no end of a hold shortens it.
const unheldPause = 30 * time.Second

// hold sets the hold of a verdict, for all replicas, and returns the verdict under that
// hold. It does not change a hold that ends later, nor an operator's. err is that of the call.
func (d *Dispatcher) hold(ctx context.Context, c *Call, cause error, v Verdict) Verdict {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), redisTimeout)
	defer cancel()
	h := hold.Hold{
		App: c.App, Scope: c.scope(v.stops), Reason: v.hold.reason, Code: codeOf(cause),
		By: hold.ReplicaPrefix + d.replica,
	}
	inForce, begun, err := d.holds.SetEnding(ctx, h, v.hold.end)
	d.templates.Forget(c.App)
	if err != nil {
		d.log.Warn("a hold could not be set", c.Log(slog.Any("err", err))...)
	}
	if inForce.Scope == "" {
		v.Delay = min(v.Delay, unheldPause)
		return v
	}
	h.Since = time.Now() // loggedHolds uses the clock of the log
	h.Until = h.Since.Add(v.hold.end.After)
	if inForce.Reason == h.Reason && d.loggedHolds.shouldLog(h) {
		attrs := []any{
			slog.String("scope", h.Scope), slog.String("reason", h.Reason), slog.Int("errcode", h.Code),
			slog.Duration("delay", v.hold.end.After), slog.Any("err", cause),
		}
		if advice := Remedy(inForce); advice != "" {
			attrs = append(attrs, slog.String("advice", advice))
		}
		d.log.Log(ctx, holdLevel(inForce), "held", c.Log(attrs...)...)
	}
	return v.underHold(begun)
}

// Held reports whether a hold of a call's type or app is in force. It returns false where
// Redis does not answer.
func (d *Dispatcher) Held(ctx context.Context, c *Call) bool {
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	held, err := d.holds.Held(ctx, c.App, c.Type)
	return err == nil && held
}

// holdLevel returns the level at which a hold is logged: warn for a whole app, and for what an
// operator should look at; info for a lane that has spent a limit, which ends by itself, and
// where a probe failed again.
func holdLevel(h hold.Hold) slog.Level {
	if h.Tries <= 1 && (h.Scope == hold.WholeApp || Probed(h)) {
		return slog.LevelWarn
	}
	return slog.LevelInfo
}

// loggedHolds remembers which holds were logged, since concurrent calls get the same
// refusal.
type loggedHolds struct {
	mu    sync.Mutex
	until map[string]time.Time // guarded by mu; by app and scope
}

// shouldLog reports whether no hold of this app and scope was logged that is still in force.
func (s *loggedHolds) shouldLog(h hold.Hold) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := h.App + " " + h.Scope
	if h.Since.Before(s.until[key]) {
		return false
	}
	if s.until == nil {
		s.until = make(map[string]time.Time)
	}
	s.until[key] = h.Until
	return true
}
