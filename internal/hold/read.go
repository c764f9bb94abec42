package hold

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/exists"
)

// Get reads the record of one hold, and whether it is in force now. It also returns the record
// of a hold that ended within [Retention], whose Tries determine the next pause.
func (s *Store) Get(ctx context.Context, app, scope string) (h Hold, active bool, err error) {
	now, holds, err := s.read(ctx, app, []string{scope})
	if err != nil || len(holds) == 0 {
		return Hold{}, false, err
	}
	return holds[0], holds[0].activeAt(now), nil
}

// Held reports whether a hold on the type or on its whole app is in force.
func (s *Store) Held(ctx context.Context, app, typ string) (bool, error) {
	now, holds, err := s.read(ctx, app, []string{WholeApp, typ})
	return slices.ContainsFunc(holds, func(h Hold) bool { return h.activeAt(now) }), err
}

// InForce returns those holds of some scopes of an app that are in force now, in one round trip.
func (s *Store) InForce(ctx context.Context, app string, scopes ...string) ([]Hold, error) {
	now, holds, err := s.read(ctx, app, scopes)
	return slices.DeleteFunc(holds, func(h Hold) bool { return !h.activeAt(now) }), err
}

// List returns the holds of some apps that are in force now, sorted by app and scope. It takes
// at most three round trips for any number of apps, and one if none has a record.
func (s *Store) List(ctx context.Context, apps ...string) ([]Hold, error) {
	indexed, err := s.readIndex(ctx, apps)
	if err != nil || len(indexed) == 0 {
		return nil, err
	}
	replies, err := s.query(ctx, indexed, readScript.EvalSha)
	if redis.HasErrorPrefix(err, "NOSCRIPT") {
		replies, err = s.query(ctx, indexed, readScript.Eval)
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
		s.skew.Store(int64(time.Until(now)))
		for _, h := range holds {
			if h.activeAt(now) {
				active = append(active, h)
			}
		}
	}
	slices.SortFunc(active, func(a, b Hold) int { return cmp.Or(cmp.Compare(a.App, b.App), cmp.Compare(a.Scope, b.Scope)) })
	return active, nil
}

// Now returns Redis' time, as the last [Store.List] that found a record showed it; the
// local time before that. Hold.Until is compared with it, since the local clock may be wrong.
func (s *Store) Now() time.Time { return time.Now().Add(time.Duration(s.skew.Load())) }

// AppsWithRecords returns those of some apps that have records, including those of holds that
// ended within [Retention]. One command checks hundreds of apps; only blocks of apps with records
// are divided further.
func (s *Store) AppsWithRecords(ctx context.Context, apps ...string) ([]string, error) {
	index := func(app string) []string { return []string{indexKey(app)} }
	found, err := exists.Filter(ctx, s.rdb, apps, index, exists.MaxKeys, 22, 1)
	if err != nil {
		return nil, fmt.Errorf("hold records of %d apps: %w", len(apps), err)
	}
	return found, nil
}

// scopesOf lists scopes of one app.
type scopesOf struct {
	app    string
	scopes []string
}

// readIndex returns the apps that have hold records, with their scopes.
func (s *Store) readIndex(ctx context.Context, apps []string) ([]scopesOf, error) {
	keys := make([]string, len(apps))
	for i, app := range apps {
		keys[i] = indexKey(app)
	}
	if _, cluster := s.rdb.(*redis.ClusterClient); !cluster && len(apps) > 1 { // on a cluster one command takes keys of one app
		n, err := s.rdb.Exists(ctx, keys...).Result()
		if err != nil || n == 0 {
			return nil, err
		}
	}
	members := make([]*redis.StringSliceCmd, len(keys))
	_, err := s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, key := range keys {
			members[i] = p.SMembers(ctx, key)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("holds of %d apps: %w", len(apps), err)
	}
	var all []scopesOf
	for i, app := range apps {
		if scopes := members[i].Val(); len(scopes) > 0 {
			all = append(all, scopesOf{app, scopes})
		}
	}
	return all, nil
}

// sendScript sends a script, by its hash or in full.
type sendScript func(ctx context.Context, c redis.Scripter, keys []string, args ...any) *redis.Cmd

func (s *Store) query(ctx context.Context, all []scopesOf, send sendScript) ([]*redis.Cmd, error) {
	replies := make([]*redis.Cmd, len(all))
	_, err := s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, of := range all {
			keys, args := of.scriptArgs(s.now())
			replies[i] = send(ctx, p, keys, args...)
		}
		return nil
	})
	return replies, err
}

// read returns the records of the scopes that have one, and Redis' time.
func (s *Store) read(ctx context.Context, app string, scopes []string) (time.Time, []Hold, error) {
	of := scopesOf{app, scopes}
	keys, args := of.scriptArgs(s.now())
	reply, err := readScript.Run(ctx, s.rdb, keys, args...).Result()
	if err != nil {
		return time.Time{}, nil, fmt.Errorf("holds of %s: %w", app, err)
	}
	return of.decode(reply)
}

// scriptArgs returns the script's keys and arguments.
func (of scopesOf) scriptArgs(now int64) (keys []string, args []any) {
	keys, args = []string{indexKey(of.app)}, []any{now, Retention.Milliseconds()}
	for _, scope := range of.scopes {
		keys, args = append(keys, Key(of.app, scope)), append(args, scope)
	}
	return keys, args
}

// decode decodes the script's reply: Redis' time, and the records of the scopes that have one.
func (of scopesOf) decode(value any) (time.Time, []Hold, error) {
	reply, _ := value.([]any)
	if len(reply) != 1+len(of.scopes) {
		return time.Time{}, nil, fmt.Errorf("holds of %s: %d values in reply for %d scopes", of.app, len(reply), len(of.scopes))
	}
	now, ok := reply[0].(int64)
	if !ok {
		return time.Time{}, nil, fmt.Errorf("holds of %s: script reply: %T where a number was expected", of.app, reply[0])
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
		h, err := Decode(of.app, scope, values)
		if err != nil {
			return time.Time{}, nil, err
		}
		holds = append(holds, h)
	}
	return time.UnixMicro(now), holds, nil
}
