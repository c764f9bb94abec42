// Package apikey has the keys with which clients of the gateway identify themselves, and what
// each key allows.
package apikey

import (
	"context"
	"slices"
	"time"

	"golang.org/x/time/rate"
)

// Scope is something that a key allows.
type Scope string

// The scopes.
const (
	Enqueue Scope = "enqueue" // enqueue and cancel tasks
	Read    Scope = "read"    // read tasks, results, batches, lanes and holds
	Operate Scope = "operate" // redrive, hold and release
	Token   Scope = "token"   // get the shared access token
	Call    Scope = "call"    // call WeChat's own paths
)

// Scopes returns all scopes.
func Scopes() []Scope { return []Scope{Enqueue, Read, Operate, Token, Call} }

// A Key is what one key allows. It does not contain the key itself.
type Key struct {
	ID      string
	Apps    []string // that the key may use; none: all
	Scopes  []Scope
	Rate    float64   // requests per second; 0: unlimited
	MaxBody int64     // of a request, in bytes; 0: the default
	Paths   []string  // for Call: further paths of WeChat, as patterns of path.Match
	Expires time.Time // zero: never

	// Fingerprint stands for the key and its permissions, and is no secret. What outlives a
	// request, such as a session or a ticket, keeps it, and ends when the key of this id has
	// another one: the key was changed, or revoked and made anew under its id.
	Fingerprint string

	limiter *rate.Limiter // nil: unlimited
}

// Admit counts a request against the key's rate. When it is exceeded, ok is false, and the
// request may be repeated after a time.
func (k *Key) Admit() (after time.Duration, ok bool) {
	if k.limiter == nil {
		return 0, true
	}
	now := time.Now()
	r := k.limiter.ReserveN(now, 1)
	after = r.DelayFrom(now)
	if after > 0 {
		r.CancelAt(now)
	}
	return after, after == 0
}

// Allows reports whether the key has a scope.
func (k *Key) Allows(s Scope) bool { return slices.Contains(k.Scopes, s) }

// AllowsApp reports whether the key may use an app.
func (k *Key) AllowsApp(app string) bool { return len(k.Apps) == 0 || slices.Contains(k.Apps, app) }

// Local returns the key of requests to a gateway without keys, which only this machine can
// reach: it allows everything.
func Local() *Key { return &Key{ID: "local", Scopes: Scopes(), Fingerprint: "local"} }

type contextKey struct{}

// NewContext returns a context with the key of a request.
func NewContext(ctx context.Context, k *Key) context.Context {
	return context.WithValue(ctx, contextKey{}, k)
}

// FromContext returns the key of a request; nil: it was not authenticated.
func FromContext(ctx context.Context) *Key {
	k, _ := ctx.Value(contextKey{}).(*Key)
	return k
}
