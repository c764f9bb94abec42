// Package refresh asks WeChat for the message templates of apps and stores them for all readers of
// package templates. Any number of replicas run a [Refresher]; one of them at a time asks for an app.
package refresh

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/templates"
	"github.com/wxcourier/wxcourier/wechat"
)

const (
	// every is the time between two fetches without a reason. WeChat's limit of gettemplate is low, and
	// not documented.
	every = 6 * time.Hour
	// early is the shortest time between a fetch and one that is asked for, by a producer or a worker.
	// It doubles with each fetch in a row that changes nothing, up to every.
	early = 10 * time.Minute
	// askRefused is how long an app is not asked for a list that WeChat says it does not have.
	askRefused = 24 * time.Hour
	// keep is how long a registry is kept after the last write.
	keep = 30 * 24 * time.Hour
	// lockFor bounds a fetch: two calls.
	lockFor = time.Minute
	// redisTimeout bounds a call to Redis.
	redisTimeout = 3 * time.Second
)

// ErrHeld means that a Caller made no call, because of a hold.
var ErrHeld = errors.New("templates: the app is held")

// ErrBusy means that another process asks for the templates of the app right now.
var ErrBusy = errors.New("templates: another process asks WeChat for them right now: repeat in a minute")

// A Caller calls an endpoint without a body, under the app's holds. It may return an answer that is an
// error of WeChat's with or without an error.
type Caller func(ctx context.Context, app string, endpoint wechat.Endpoint) (wechat.RawAnswer, error)

// Refresher fetches templates. Create it with New.
type Refresher struct {
	rdb  redis.UniversalClient
	call Caller
	log  *slog.Logger
	now  func() time.Time
}

// New creates a Refresher. It does no I/O. A nil clock is time.Now.
func New(rdb redis.UniversalClient, call Caller, log *slog.Logger, clock func() time.Time) *Refresher {
	if clock == nil {
		clock = time.Now
	}
	return &Refresher{rdb: rdb, call: call, log: log, now: clock}
}

// reason is why templates are fetched.
type reason int

const (
	due    reason = iota // as every few hours
	wanted               // a message did not fit
	forced               // an operator wants it, at once
)

// Refresh asks WeChat for the templates of an app now, and returns what is known then. The error is
// ErrBusy or one of Redis; WeChat's are in the listings.
func (r *Refresher) Refresh(ctx context.Context, app string, mode templates.Mode) (*templates.Registry, error) {
	return r.fetch(ctx, app, mode, forced)
}

// fetch asks for the lists of an app, unless it is too early for the reason.
func (r *Refresher) fetch(ctx context.Context, app string, mode templates.Mode, why reason) (*templates.Registry, error) {
	unlock, err := r.lock(ctx, app)
	if err != nil {
		return nil, err
	}
	defer unlock()
	registry, err := r.load(ctx, app)
	if err != nil {
		return nil, err
	}
	now := r.now()
	if why == due && now.Before(registry.FetchedAt.Add(every)) {
		why = wanted
	}
	if why != forced || registry.FetchedAt.IsZero() {
		registry.Mode = mode // an operator's process may have another configuration than the workers
	}
	if why != forced && now.Before(registry.Until) {
		return registry, r.store(ctx, app, registry, registry.Until)
	}
	var changes []string
	failed, held := false, false
	calling, cancel := context.WithTimeout(ctx, lockFor-2*redisTimeout)
	defer cancel()
	for _, source := range templates.Sources() {
		change, err := r.list(calling, app, registry, source, why)
		changes = append(changes, change...)
		failed, held = failed || err != nil, held || errors.Is(err, ErrHeld)
	}
	if len(changes) > 0 {
		r.log.Warn("message templates changed", slog.String("app", app), slog.Any("changes", changes[:min(len(changes), 20)]))
	}
	switch {
	case held: // WeChat was not asked: the end of the hold must not wait for a long pause
	case failed, why == wanted && len(changes) == 0:
		registry.Quiet++
	default:
		registry.Quiet = 0
	}
	pause := min(early<<min(registry.Quiet, 10), every)
	registry.Until = now.Add(pause)
	next := now.Add(every)
	if failed {
		next = registry.Until
	}
	return registry, r.store(ctx, app, registry, next)
}

// list asks for one list. It returns what changed, and an error that may pass.
func (r *Refresher) list(ctx context.Context, app string, registry *templates.Registry, source templates.Source, why reason) ([]string, error) {
	was, now := registry.Lists[source], r.now()
	if was != nil && was.Refused != 0 && why != forced && now.Before(was.AskedAt.Add(askRefused)) {
		return nil, nil
	}
	endpoint := endpointOf(source)
	answer, err := r.call(ctx, app, endpoint)
	var list []wechat.Template
	if answer.Status != 0 {
		list, err = wechat.DecodeTemplates(endpoint, answer)
	}
	if err == nil {
		return registry.SetList(source, convert(list), now), nil
	}
	next := &templates.Listing{AskedAt: now, Error: err.Error()}
	if was != nil {
		next.FetchedAt = was.FetchedAt
	}
	if registry.Lists == nil {
		registry.Lists = make(map[templates.Source]*templates.Listing)
	}
	registry.Lists[source] = next
	var api *wechat.APIError
	if errors.As(err, &api) && slices.Contains(refusals(), api.Code) {
		next.Refused = api.Code
		return nil, nil
	}
	r.log.Info("message templates could not be read", slog.String("app", app), slog.String("api", string(endpoint)), slog.Any("err", err))
	return nil, err
}

// refusals are the codes for an app that does not have a list: of another type of account, or without
// the permission.
func refusals() []int { return []int{48001, 40066, 200100} }

func endpointOf(source templates.Source) wechat.Endpoint {
	if source == templates.Account {
		return wechat.EndpointAccountTemplates
	}
	return wechat.EndpointSubscribeTemplates
}

// convert returns templates as they are stored.
func convert(list []wechat.Template) []templates.Template {
	all := make([]templates.Template, 0, len(list))
	for _, t := range list {
		stored := templates.Template{
			ID: t.ID, Title: t.Title, Kind: int(t.Kind), Content: t.Content, Example: t.Example,
			Fields: make([]templates.Field, 0, len(t.Fields)),
		}
		for _, f := range t.Fields {
			stored.Fields = append(stored.Fields, templates.Field{Name: f.Name, Kind: templates.FieldKind(f.Name), Label: f.Label, Values: f.Values})
		}
		all = append(all, stored)
	}
	return all
}

// load returns the registry of an app, an empty one where there is none or it cannot be read.
func (r *Refresher) load(ctx context.Context, app string) (*templates.Registry, error) {
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	text, err := r.rdb.Get(ctx, templates.Key(app)).Bytes()
	if errors.Is(err, redis.Nil) {
		return new(templates.Registry), nil
	}
	if err != nil {
		return nil, err
	}
	registry, err := templates.Decode(text)
	if err != nil {
		return new(templates.Registry), nil // it is replaced
	}
	return registry, nil
}

// store writes a registry, and when the app is due next.
func (r *Refresher) store(ctx context.Context, app string, registry *templates.Registry, next time.Time) error {
	if registry.Templates == nil {
		registry.Templates = []templates.Template{}
	}
	text, err := json.Marshal(registry)
	if err != nil {
		return fmt.Errorf("encode the templates of %s: %w", app, err)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), redisTimeout)
	defer cancel()
	_, err = r.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		p.Set(ctx, templates.Key(app), text, keep)
		p.ZAdd(ctx, templates.DueKey, redis.Z{Score: float64(next.Unix()), Member: app})
		return nil
	})
	return err
}

// lockKey returns the key that the process holds which asks for an app's templates.
func lockKey(app string) string { return templates.Key(app) + ":lock" }

// unlockScript deletes a lock that is still ours.
//
// KEYS[1] the lock
// ARGV[1] our token
//
// It returns the number of locks that it deleted.
var unlockScript = redis.NewScript(`
if redis.call('GET', KEYS[1]) == ARGV[1] then
  return redis.call('DEL', KEYS[1])
end
return 0`)

// lock takes the lock of an app, for lockFor at most. The error is ErrBusy or one of Redis.
func (r *Refresher) lock(ctx context.Context, app string) (unlock func(), err error) {
	token := rand.Text()
	short, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	locked, err := r.rdb.SetNX(short, lockKey(app), token, lockFor).Result()
	if err != nil {
		return nil, err
	}
	if !locked {
		return nil, ErrBusy
	}
	return func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), redisTimeout)
		defer cancel()
		_ = unlockScript.Run(ctx, r.rdb, []string{lockKey(app)}, token).Err() // it expires
	}, nil
}
