package dispatch

import (
	"context"
	"errors"
	"log/slog"
	"strings"

	"github.com/wxcourier/wxcourier/internal/background"
	"github.com/wxcourier/wxcourier/internal/hold"
)

// RecheckCredentials asks for a token for each of the apps that is held because it got none, and
// lifts the hold where there is one now: a process that starts with a corrected secret does not
// wait for the next probe, which may be half an hour away. It repeats the reading of the holds
// until Redis answers or ctx ends.
func (d *Dispatcher) RecheckCredentials(ctx context.Context, apps []string) {
	held, err := d.heldOf(ctx, apps)
	for err != nil {
		if !background.Sleep(ctx, redisTimeout) {
			return
		}
		held, err = d.heldOf(ctx, apps)
	}
	for _, h := range held {
		if lacksToken(h) {
			d.recheck(ctx, h)
		}
	}
}

// heldOf returns the holds in force of some apps, which may be thousands.
func (d *Dispatcher) heldOf(ctx context.Context, apps []string) ([]hold.Hold, error) {
	apps, err := d.holds.AppsWithRecords(ctx, apps...)
	if err != nil || len(apps) == 0 {
		return nil, err
	}
	return d.holds.List(ctx, apps...)
}

// lacksToken reports whether a replica has held an app because there was no token for it.
func lacksToken(h hold.Hold) bool {
	return h.Scope == hold.WholeApp && strings.HasPrefix(h.By, hold.ReplicaPrefix) && (h.Reason == appConfig || h.Reason == tokenUnavailable || h.Reason == hold.ReasonUnauthorized)
}

// recheck lifts the hold of an app if its credentials give a token, and the hold is still there.
func (d *Dispatcher) recheck(ctx context.Context, h hold.Hold) {
	attrs := []any{slog.String("app", h.App), slog.String("reason", h.Reason)}
	if err := d.wechat.CheckCredentials(ctx, h.App); err != nil {
		d.log.Info("the app stays held: it gets no token", append(attrs, slog.Any("err", err))...)
		return
	}
	now, active, err := d.holds.Get(ctx, h.App, h.Scope)
	if err == nil && active && lacksToken(now) {
		_, err = d.holds.Lift(ctx, h.App, h.Scope)
	}
	if err != nil {
		if !errors.Is(err, context.Canceled) {
			d.log.Warn("the hold could not be lifted", append(attrs, slog.Any("err", err))...)
		}
		return
	}
	d.log.Info("the hold is lifted: the app gets a token again", attrs...)
}
