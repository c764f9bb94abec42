package consent

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"hash/fnv"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// Keep is how long an entry is kept after its last change.
	Keep = 180 * 24 * time.Hour
	// PushDelay is how long the push of an acceptance may take. A message may be enqueued before it comes.
	PushDelay = 10 * time.Second
	// markerFor is how long after a message without a known credit the push of its acceptance is expected.
	markerFor = time.Minute
	// keyFresh is how long the key of an app's hashes is used before Redis is asked for it again.
	keyFresh = time.Minute
)

// Store keeps entries in Redis. Create it with NewStore. It is safe for concurrent use.
type Store struct {
	rdb redis.UniversalClient
	now func() time.Time

	mu   sync.Mutex
	keys map[string]hashKey // guarded by mu: by app
}

// hashKey is the key of the hashes of an app's openids.
type hashKey struct {
	text string
	read time.Time
}

// NewStore creates a Store. It does no I/O. A nil clock is time.Now.
func NewStore(rdb redis.UniversalClient, clock func() time.Time) *Store {
	if clock == nil {
		clock = time.Now
	}
	return &Store{rdb: rdb, now: clock, keys: make(map[string]hashKey)}
}

// secretKey returns the key in Redis of the key of an app's hashes.
func secretKey(app string) string { return "wxcourier:{" + app + "}:consents:key" }

// countsKey returns the key of the hash of a day's checks: by "<type>|<check>".
func countsKey(app, day string) string { return "wxcourier:{" + app + "}:consents:" + day }

// personKey returns the key of the entries of a person.
func (s *Store) personKey(ctx context.Context, app, openid string) (string, error) {
	secret, err := s.secret(ctx, app)
	if err != nil {
		return "", err
	}
	return personKey(app, openid, secret), nil
}

// knownPersonKey is personKey for a reader, which makes no key of an app's hashes. It is "" if there is
// none, and so no entry.
func (s *Store) knownPersonKey(ctx context.Context, app, openid string) (string, error) {
	s.mu.Lock()
	_, known := s.keys[app]
	s.mu.Unlock()
	if known {
		return s.personKey(ctx, app, openid)
	}
	secret, err := s.rdb.Get(ctx, secretKey(app)).Result()
	if errors.Is(err, redis.Nil) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read the key of the consents: %w", err)
	}
	return personKey(app, openid, secret), nil
}

func personKey(app, openid, secret string) string {
	h := hmac.New(sha256.New, []byte(secret))
	h.Write([]byte(openid))
	return "wxcourier:{" + app + "}:consent:" + base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:16])
}

// secret returns the key of an app's hashes, and makes it where there is none. A process that has it
// writes it again to a Redis that lost it.
func (s *Store) secret(ctx context.Context, app string) (string, error) {
	s.mu.Lock()
	known := s.keys[app]
	s.mu.Unlock()
	if known.text != "" && s.now().Sub(known.read) < keyFresh {
		return known.text, nil
	}
	if known.text == "" {
		known.text = rand.Text()
	}
	pipe := s.rdb.Pipeline()
	pipe.SetNX(ctx, secretKey(app), known.text, 0)
	stored := pipe.Get(ctx, secretKey(app))
	if _, err := pipe.Exec(ctx); err != nil {
		return "", fmt.Errorf("read the key of the consents: %w", err)
	}
	known = hashKey{text: stored.Val(), read: s.now()}
	s.mu.Lock()
	s.keys[app] = known
	s.mu.Unlock()
	return known.text, nil
}

// A Send is a message that is being sent.
type Send struct {
	App, OpenID, Template string
	// Run is unique to the run of the task.
	Run string
	// Began is when the call began, before Reserve.
	Began time.Time
}

// reservation returns a short name of the run.
func (m Send) reservation() string { return short(m.Run) }

func short(text string) string {
	h := fnv.New32a()
	_, _ = h.Write([]byte(text))
	return strconv.FormatUint(uint64(h.Sum32()), 36)
}

// run runs a script on the entry of a person and a template.
func (s *Store) run(ctx context.Context, script *redis.Script, app, openid, template string, args ...any) *redis.Cmd {
	key, err := s.personKey(ctx, app, openid)
	if err != nil {
		cmd := redis.NewCmd(ctx)
		cmd.SetErr(err)
		return cmd
	}
	return script.Run(ctx, s.rdb, []string{key}, s.args(template, args)...)
}

func (s *Store) args(template string, more []any) []any {
	return append([]any{template, s.now().Unix(), int64(Keep / time.Second), int64(markerFor / time.Second), int64(Skew / time.Second)}, more...)
}

// Reserve reserves a credit for a message, where one is free: until Commit, Release or Zero, or until
// hold has passed. It returns the entry as it was before, and whether a credit is reserved. It may be
// repeated.
func (s *Store) Reserve(ctx context.Context, m Send, hold time.Duration) (before Entry, held bool, err error) {
	reply, err := s.run(ctx, reserveScript, m.App, m.OpenID, m.Template, m.reservation(), s.now().Add(hold).Unix()).Slice()
	if err != nil || len(reply) != 2 {
		return Entry{}, false, fmt.Errorf("reserve a credit: %w", errors.Join(err, badReply(len(reply))))
	}
	n, _ := reply[0].(int64)
	text, _ := reply[1].(string)
	return parseEntry(text), n == 1, nil
}

// badReply is the error of a reply of another length than two; nil for two.
func badReply(n int) error {
	if n == 2 || n == 0 { // 0: there is an error of Redis
		return nil
	}
	return fmt.Errorf("unexpected reply of %d values", n)
}

// Get returns the entry of a person and a template, without reserving anything.
func (s *Store) Get(ctx context.Context, app, openid, template string) (Entry, error) {
	key, err := s.knownPersonKey(ctx, app, openid)
	if err != nil || key == "" {
		return Entry{}, err
	}
	text, err := s.rdb.HGet(ctx, key, template).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return Entry{}, fmt.Errorf("read the consents: %w", err)
	}
	return parseEntry(text), nil
}

// List returns the entries of a person, by template.
func (s *Store) List(ctx context.Context, app, openid string) (map[string]Entry, error) {
	key, err := s.knownPersonKey(ctx, app, openid)
	if err != nil || key == "" {
		return nil, err
	}
	texts, err := s.rdb.HGetAll(ctx, key).Result()
	if err != nil {
		return nil, fmt.Errorf("read the consents: %w", err)
	}
	all := make(map[string]Entry, len(texts))
	for template, text := range texts {
		if e := parseEntry(text); e.known() {
			all[template] = e
		}
	}
	return all, nil
}

// A Basis is why a message was sent, for Commit.
type Basis string

// The values of Basis.
const (
	Reserved  Basis = "held"  // a credit was reserved for it
	NoCredit  Basis = "wrong" // there was no credit, so that the entry must be wrong
	PushAhead Basis = "early" // the push of its credit may not have come yet
)

// Commit notes that WeChat accepted a message. It may be repeated.
func (s *Store) Commit(ctx context.Context, m Send, basis Basis) error {
	return wrap("take a credit", s.run(ctx, commitScript, m.App, m.OpenID, m.Template, m.reservation(), m.Began.Unix(), string(basis)))
}

// Release notes that WeChat certainly did not take a message for which a credit was reserved. It may
// be repeated.
func (s *Store) Release(ctx context.Context, m Send) error {
	return wrap("release a credit", s.run(ctx, releaseScript, m.App, m.OpenID, m.Template, m.reservation()))
}

// Zero notes that WeChat answered 43101: the person had no credit left, or refuses the template. It may
// be repeated.
func (s *Store) Zero(ctx context.Context, m Send) error {
	return wrap("note a refusal", s.run(ctx, zeroScript, m.App, m.OpenID, m.Template, m.reservation(), m.Began.Unix()))
}

func wrap(what string, cmd *redis.Cmd) error {
	if err := cmd.Err(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}
