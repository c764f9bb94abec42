// Package apikey has the keys with which clients of the gateway identify themselves, and what
// each key allows. A file holds one key a line, as JSON, with the SHA-256 of the key in place of
// the key; [Add] and [Revoke] maintain it. A [Set] is the file in memory:
//
//	keys := apikey.NewSet(path, log)
//	if err := keys.Load(); err != nil {
//		return err
//	}
//	go keys.Run(ctx) // reads the file again when it changes
//	key, err := keys.Authenticate("wxc_orders_…")
package apikey

import (
	"context"
	"crypto/sha256"
	"encoding/json"
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
	Created time.Time // zero: not known
	Expires time.Time // zero: never

	// Fingerprint stands for the key and its permissions, and is no secret. What outlives a
	// request, such as a session or a ticket, keeps it, and ends when [Set.Get] returns a key
	// with another one: the key was changed, or revoked and made anew under its id.
	Fingerprint string

	hash    [sha256.Size]byte
	limiter *rate.Limiter // nil: unlimited
}

// Allows reports whether the key has a scope.
func (k *Key) Allows(s Scope) bool { return slices.Contains(k.Scopes, s) }

// AllowsApp reports whether the key may use an app.
func (k *Key) AllowsApp(app string) bool { return len(k.Apps) == 0 || slices.Contains(k.Apps, app) }

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

// expired reports whether the key no longer counts.
func (k *Key) expired(now time.Time) bool { return !k.Expires.IsZero() && !now.Before(k.Expires) }

// complete sets the fields that follow from the others.
func (k *Key) complete() {
	allowed, _ := json.Marshal(struct { // of strings, numbers and times: cannot fail
		ID                  string
		Hash                []byte
		Apps, Scopes, Paths []string
		Expires             time.Time
	}{k.ID, k.hash[:], k.Apps, texts(k.Scopes), k.Paths, k.Expires.UTC()})
	sum := sha256.Sum256(append([]byte("wxcourier key fingerprint\x00"), allowed...))
	k.Fingerprint = encoding.EncodeToString(sum[:15])
	if k.Rate > 0 {
		k.limiter = rate.NewLimiter(rate.Limit(k.Rate), max(1, int(k.Rate)))
	}
}

func texts(scopes []Scope) []string {
	all := make([]string, len(scopes))
	for i, s := range scopes {
		all[i] = string(s)
	}
	return all
}

// localID is the id of the key that Local returns; no other key may have it.
const localID = "local"

// Local returns the key of requests to a gateway without keys, which only this machine can
// reach: it allows everything.
func Local() *Key { return &Key{ID: localID, Scopes: Scopes(), Fingerprint: localID} }

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
