package ratelimit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// HoldFor reads the record of one hold, and whether it is in force now. It also returns the
// record of a hold that ended within the last hour, whose Tries determine the next pause.
func (l *Limiter) HoldFor(ctx context.Context, app, scope string) (h Hold, active bool, err error) {
	now, holds, err := l.readHolds(ctx, app, []string{scope})
	if err != nil || len(holds) == 0 {
		return Hold{}, false, err
	}
	return holds[0], holds[0].activeAt(now), nil
}

// Held reports whether a hold on the type or on its whole app is in force.
func (l *Limiter) Held(ctx context.Context, app, typ string) (bool, error) {
	now, holds, err := l.readHolds(ctx, app, []string{WholeApp, typ})
	return slices.ContainsFunc(holds, func(h Hold) bool { return h.activeAt(now) }), err
}

// Holds returns the holds of some apps that are in force now, sorted by app and scope. It takes
// at most three round trips for any number of apps, and one if none had a hold for an hour.
func (l *Limiter) Holds(ctx context.Context, apps ...string) ([]Hold, error) {
	indexed, err := l.readIndex(ctx, apps)
	if err != nil || len(indexed) == 0 {
		return nil, err
	}
	replies, err := l.queryHolds(ctx, indexed, holdsScript.EvalSha)
	if redis.HasErrorPrefix(err, "NOSCRIPT") {
		replies, err = l.queryHolds(ctx, indexed, holdsScript.Eval)
	}
	if err != nil {
		return nil, fmt.Errorf("holds of %d apps: %w", len(indexed), err)
	}
	var active []Hold
	for i, of := range indexed {
		now, holds, err := of.decode(replies[i].Val())
		if err != nil {
			return nil, err
		}
		l.clockSkew.Store(int64(time.Until(now)))
		for _, h := range holds {
			if h.activeAt(now) {
				active = append(active, h)
			}
		}
	}
	slices.SortFunc(active, func(a, b Hold) int { return cmp.Or(cmp.Compare(a.App, b.App), cmp.Compare(a.Scope, b.Scope)) })
	return active, nil
}

// Now returns Redis' time, as the last [Limiter.Holds] that found a hold record showed it; the
// local time before that. Hold.Until is compared with it, since the local clock may be wrong.
func (l *Limiter) Now() time.Time { return time.Now().Add(time.Duration(l.clockSkew.Load())) }

// AppsWithHolds returns those of some apps that have hold records, including records of holds that
// ended within the last hour. One command checks hundreds of apps; only blocks of apps with
// records are divided further.
func (l *Limiter) AppsWithHolds(ctx context.Context, apps ...string) ([]string, error) {
	_, cluster := l.rdb.(*redis.ClusterClient)
	for _, size := range []int{500, 22, 1} { // apps per EXISTS; blocks with records are checked again in smaller ones
		if len(apps) == 0 || cluster && size > 1 { // on a cluster one command takes keys of one app
			continue
		}
		blocks := slices.Collect(slices.Chunk(apps, size))
		replies := make([]*redis.IntCmd, len(blocks))
		_, err := l.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
			for i, block := range blocks {
				keys := make([]string, len(block))
				for j, app := range block {
					keys[j] = holdsKey(app)
				}
				replies[i] = p.Exists(ctx, keys...)
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("hold records of %d apps: %w", len(apps), err)
		}
		var some []string
		for i, block := range blocks {
			if replies[i].Val() > 0 {
				some = append(some, block...)
			}
		}
		apps = some
	}
	return apps, nil
}

// holdScopes lists scopes of one app.
type holdScopes struct {
	app    string
	scopes []string
}

// readIndex returns the apps that have hold records, with their scopes.
func (l *Limiter) readIndex(ctx context.Context, apps []string) ([]holdScopes, error) {
	keys := make([]string, len(apps))
	for i, app := range apps {
		keys[i] = holdsKey(app)
	}
	if _, cluster := l.rdb.(*redis.ClusterClient); !cluster && len(apps) > 1 { // on a cluster one command takes keys of one app
		n, err := l.rdb.Exists(ctx, keys...).Result()
		if err != nil || n == 0 {
			return nil, err
		}
	}
	members := make([]*redis.StringSliceCmd, len(keys))
	_, err := l.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, key := range keys {
			members[i] = p.SMembers(ctx, key)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("holds of %d apps: %w", len(apps), err)
	}
	var all []holdScopes
	for i, app := range apps {
		if scopes := members[i].Val(); len(scopes) > 0 {
			all = append(all, holdScopes{app, scopes})
		}
	}
	return all, nil
}

// sendScript sends a script, by its hash or in full.
type sendScript func(ctx context.Context, c redis.Scripter, keys []string, args ...any) *redis.Cmd

func (l *Limiter) queryHolds(ctx context.Context, all []holdScopes, send sendScript) ([]*redis.Cmd, error) {
	replies := make([]*redis.Cmd, len(all))
	_, err := l.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, of := range all {
			keys, args := of.scriptArgs(l.now())
			replies[i] = send(ctx, p, keys, args...)
		}
		return nil
	})
	return replies, err
}

func (h Hold) activeAt(now time.Time) bool { return h.Until.IsZero() || h.Until.After(now) }

// readHolds returns the records of the scopes that have one, and Redis' time.
func (l *Limiter) readHolds(ctx context.Context, app string, scopes []string) (time.Time, []Hold, error) {
	of := holdScopes{app, scopes}
	keys, args := of.scriptArgs(l.now())
	reply, err := holdsScript.Run(ctx, l.rdb, keys, args...).Result()
	if err != nil {
		return time.Time{}, nil, fmt.Errorf("holds of %s: %w", app, err)
	}
	return of.decode(reply)
}

// scriptArgs returns the script's keys and arguments.
func (of holdScopes) scriptArgs(now int64) (keys []string, args []any) {
	keys, args = []string{holdsKey(of.app)}, []any{now, holdRetention.Milliseconds()}
	for _, s := range of.scopes {
		keys, args = append(keys, holdKey(of.app, s)), append(args, s)
	}
	return keys, args
}

// decode decodes the script's reply: Redis' time, and the records of the scopes that have one.
func (of holdScopes) decode(value any) (time.Time, []Hold, error) {
	reply, _ := value.([]any)
	if len(reply) != 1+len(of.scopes) {
		return time.Time{}, nil, fmt.Errorf("holds of %s: %d values in reply for %d scopes", of.app, len(reply), len(of.scopes))
	}
	now, err := integers(reply[:1])
	if err != nil {
		return time.Time{}, nil, fmt.Errorf("holds of %s: %w", of.app, err)
	}
	var holds []Hold
	for i, scope := range of.scopes {
		values, ok := reply[1+i].([]any)
		if !ok {
			return time.Time{}, nil, fmt.Errorf("holds of %s: %T where a hold was expected", of.app, reply[1+i])
		}
		if len(values) == 0 {
			continue
		}
		h, err := decodeHold(of.app, scope, values)
		if err != nil {
			return time.Time{}, nil, err
		}
		holds = append(holds, h)
	}
	return time.UnixMicro(now[0]), holds, nil
}

// decodeHold decodes a hold's hash.
func decodeHold(app, scope string, reply []any) (Hold, error) {
	f, err := fields(reply)
	if err != nil {
		return Hold{}, err
	}
	var errs []error
	number := func(name string) int64 {
		n, err := strconv.ParseInt(f[name], 10, 64)
		if err != nil {
			errs = append(errs, fmt.Errorf("hold %s of %s: field %s: %w", scope, app, name, err))
		}
		return n
	}
	h := Hold{
		App: app, Scope: scope, Reason: f["reason"], By: f["by"],
		Code: int(number("code")), Tries: int(number("tries")),
		Since: fromMillis(number("since")), Until: fromMillis(number("until")),
	}
	return h, errors.Join(errs...)
}
