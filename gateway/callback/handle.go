package callback

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/background"
	"github.com/wxcourier/wxcourier/wechat/callback"
)

const (
	batchEntries = 500 // entries that handlers get at a time
	maxDrains    = 16  // apps whose pushes are handled at a time
)

// drain hands the pushes of one app to the handlers.
type drain struct {
	running bool
	again   bool      // there may be more
	failed  int       // batches in a row that failed
	after   time.Time // of the next try, after an error
	size    int       // entries of a batch: halved by an error, until a bad push is alone in its batch
	handled []stored  // entries that are still to be removed
}

// wake makes the pushes of an app be handled soon.
func (r *Receiver) wake(app string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	d := r.drains[app]
	if d == nil {
		d = &drain{size: batchEntries}
		r.drains[app] = d
	}
	d.again = true
	select {
	case r.woken <- struct{}{}:
	default:
	}
}

// due returns an app whose pushes are to be handled now, and marks it as running.
func (r *Receiver) due(now time.Time) (app string, d *drain) {
	r.mu.Lock()
	defer r.mu.Unlock()
	running := 0
	for _, d := range r.drains {
		if d.running {
			running++
		}
	}
	if running >= maxDrains {
		return "", nil
	}
	for app, d := range r.drains {
		if d.again && !d.running && !now.Before(d.after) {
			d.running, d.again = true, false
			return app, d
		}
	}
	return "", nil
}

// run starts a goroutine for each app that is due, until ctx ends. It does not wait for them.
func (r *Receiver) run(ctx context.Context, drains *sync.WaitGroup) {
	drains.Go(func() { r.sweepLoop(ctx) })
	for {
		for app, d := r.due(time.Now()); d != nil; app, d = r.due(time.Now()) {
			drains.Go(func() {
				r.drain(ctx, app, d)
				r.mu.Lock()
				d.running = false
				r.mu.Unlock()
				select {
				case r.woken <- struct{}{}:
				default:
				}
			})
		}
		select {
		case <-ctx.Done():
			return
		case <-r.woken:
		}
	}
}

// drain handles the pushes of an app until there are none, or a handler fails, or another gateway does it.
// A push that fails alone moves to the end of the stream, behind those that can be handled.
func (r *Receiver) drain(ctx context.Context, app string, d *drain) {
	if !background.Sleep(ctx, r.tuning.gather) {
		return
	}
	if _, known := r.deps.Keys(app); !known {
		return // see sweep
	}
	for {
		entries, owned, err := r.next(ctx, app, d.size, d.handled)
		if err != nil {
			if ctx.Err() != nil {
				r.release(ctx, app, d.handled)
				return
			}
			r.postpone(d, err)
			return
		}
		d.handled = nil
		if !owned || len(entries) == 0 {
			return
		}
		if err := r.handle(ctx, app, entries); err != nil {
			r.metrics.handled.WithLabelValues(app, handledFailed).Add(float64(len(entries)))
			if d.handled = r.drop(app, entries, err); d.handled == nil {
				r.retryLater(ctx, app, d, entries)
				r.postpone(d, err)
				r.release(ctx, app, nil)
				return
			}
			continue
		}
		d.handled, d.failed, d.size = entries, 0, batchEntries
	}
}

// retryLater prepares the next try after entries have failed.
func (r *Receiver) retryLater(ctx context.Context, app string, d *drain, entries []stored) {
	if len(entries) > 1 {
		d.size = len(entries) / 2
		return
	}
	d.size = batchEntries
	if ctx.Err() != nil {
		return
	}
	if err := r.move(ctx, app, entries[0]); err != nil && r.warned.first("move") {
		r.deps.Log.Warn("a push that failed could not be moved behind the others", "app", app, "err", err)
	}
}

// postpone sets when an app is tried again.
func (r *Receiver) postpone(d *drain, err error) {
	pause := min(r.tuning.backoff<<min(d.failed, 10), maxBackoff)
	r.mu.Lock()
	d.failed, d.after, d.again = d.failed+1, time.Now().Add(pause), true
	r.mu.Unlock()
	if !errors.Is(err, context.Canceled) && r.warned.first("handle") {
		r.deps.Log.Warn("pushes are handled later", "delay", pause, "err", err)
	}
	r.background.Go(func(ctx context.Context) {
		if background.Sleep(ctx, pause) {
			select {
			case r.woken <- struct{}{}:
			default:
			}
		}
	})
}

// drop gives up a single entry that has failed for tuning.drop. It returns nil while there is another try.
func (r *Receiver) drop(app string, entries []stored, err error) []stored {
	if len(entries) > 1 || time.Since(entries[0].added()) < r.tuning.drop {
		return nil
	}
	r.metrics.handled.WithLabelValues(app, handledDropped).Inc()
	r.deps.Log.Error("a push is given up: it could not be handled", "app", app, "age", r.tuning.drop, "err", err)
	return entries
}

// handle hands entries to all handlers.
func (r *Receiver) handle(ctx context.Context, app string, entries []stored) (err error) {
	ctx, cancel := context.WithTimeout(ctx, r.tuning.handle)
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %T", p) // its value may have a part of a push
		}
	}()
	var all []callback.Push
	for _, e := range entries {
		var p callback.Push
		if json.Unmarshal([]byte(e.text), &p) == nil {
			all = append(all, p)
		}
	}
	for _, h := range r.deps.Handlers {
		if len(all) == 0 {
			break
		}
		if err := h.Handle(ctx, app, all); err != nil {
			return err
		}
	}
	if unread := len(entries) - len(all); unread > 0 {
		r.metrics.handled.WithLabelValues(app, handledDropped).Add(float64(unread))
		r.deps.Log.Error("stored pushes cannot be read, and are dropped", "app", app, "count", unread)
	}
	r.metrics.handled.WithLabelValues(app, handledOK).Add(float64(len(all)))
	return nil
}

// sweepLoop looks for what others have left.
func (r *Receiver) sweepLoop(ctx context.Context) {
	for {
		if err := r.sweep(ctx); err != nil && ctx.Err() == nil && r.warned.first("sweep") {
			r.deps.Log.Warn("the stored pushes were not looked for", slog.Any("err", err))
		}
		if !background.Sleep(ctx, r.tuning.sweep) {
			return
		}
	}
}

// sweep wakes each app that has stored pushes. Those of an app that is not configured here are left to
// gateways that know it, and removed after some time.
func (r *Receiver) sweep(ctx context.Context) error {
	apps, err := r.deps.Redis.SMembers(ctx, appsKey).Result()
	if err != nil || len(apps) == 0 {
		return err
	}
	lengths := make([]*redis.IntCmd, len(apps))
	trims := make([]*redis.IntCmd, len(apps))
	_, err = r.deps.Redis.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, app := range apps {
			if _, known := r.deps.Keys(app); !known {
				oldest := strconv.FormatInt(time.Now().Add(-r.tuning.keep).UnixMilli(), 10)
				trims[i] = p.XTrimMinID(ctx, streamKey(app), oldest)
			}
			lengths[i] = p.XLen(ctx, streamKey(app))
		}
		return nil
	})
	for i, app := range apps {
		if lengths[i].Err() != nil { // is part of err; the other apps do not wait for it
			continue
		}
		waiting := lengths[i].Val()
		if trims[i] != nil {
			r.forget(ctx, app, trims[i].Val(), waiting)
			continue
		}
		r.metrics.backlog.WithLabelValues(app).Set(float64(waiting))
		if waiting > 0 {
			r.wake(app)
		}
	}
	return err
}

// forget ends what is kept for an app that is not configured.
func (r *Receiver) forget(ctx context.Context, app string, removed, waiting int64) {
	r.metrics.backlog.DeleteLabelValues(app)
	if removed > 0 {
		r.metrics.handled.WithLabelValues(app, handledDropped).Add(float64(removed))
		r.deps.Log.Warn("pushes of an app that is not configured any more were removed", "app", app, "count", removed)
	}
	if waiting == 0 {
		_ = r.deps.Redis.SRem(ctx, appsKey, app).Err() // else the next sweep does it
	}
}
