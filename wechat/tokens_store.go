package wechat

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// The Redis keys of an app's token share the app's hash tag, so that one script can use all of
// them on a cluster.

// tokenKey returns the key of the token, a hash: value, expires_at_ms, fetched_at_ms (Unix
// time, by the clock of the replica that fetched it), mode, and asked, which tells apart the
// credentials that it was requested with.
func tokenKey(app string) string { return "wxcourier:{" + app + "}:token" }

// lockKey returns the key of the refresh lock. Its value is the owner, a random text of one
// refresh; it has a TTL.
func lockKey(app string) string { return "wxcourier:{" + app + "}:token:lock" }

// failKey returns the key of the last failure, a hash: see failure.
func failKey(app string) string { return "wxcourier:{" + app + "}:token:fail" }

// tokenKeyGrace is how long the token key outlives the token, for inspection.
const tokenKeyGrace = time.Minute

// failureRetention is how long a failure is kept after its backoff; a later failure counts as
// the first.
const failureRetention = 5 * time.Minute

// sharedToken is a token as stored in Redis.
type sharedToken struct {
	Token
	fetchedAt time.Time
	life      time.Duration // its lifetime when it was fetched
	mode      string
	asked     string // Credential.fingerprint of the request; "": not known
}

func (s sharedToken) validAt(now time.Time) bool { return s.Value != "" && now.Before(s.ExpiresAt) }

// dueAt returns when the token is due for a refresh.
func (s sharedToken) dueAt(jitter time.Duration) time.Time {
	return s.ExpiresAt.Add(-min(refreshAhead-jitter, s.life/10))
}

// tokenStore reads and writes the state of Tokens in Redis.
type tokenStore struct{ rdb redis.UniversalClient }

// load returns the token and the last failure; either may be zero.
func (s tokenStore) load(ctx context.Context, app string) (sharedToken, failure, error) {
	var token, fail *redis.MapStringStringCmd
	_, err := s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		token, fail = p.HGetAll(ctx, tokenKey(app)), p.HGetAll(ctx, failKey(app))
		return nil
	})
	if err != nil {
		return sharedToken{}, failure{}, fmt.Errorf("read the token from Redis: %w", err)
	}
	fields := token.Val()
	shared := sharedToken{
		Token:     Token{Value: Secret(fields["value"]), ExpiresAt: unixMilli(fields["expires_at_ms"])},
		fetchedAt: unixMilli(fields["fetched_at_ms"]),
		mode:      fields["mode"],
		asked:     fields["asked"],
	}
	shared.life = shared.ExpiresAt.Sub(shared.fetchedAt)
	return shared, failureOf(fail.Val()), nil
}

// unixMilli parses Unix milliseconds; anything but a number gives the zero time.
func unixMilli(s string) time.Time {
	ms, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}

// lock acquires the app's refresh lock for owner, and reports whether it was free. The lock
// expires after ttl, in case its owner dies.
func (s tokenStore) lock(ctx context.Context, app, owner string, ttl time.Duration) (bool, error) {
	err := s.rdb.SetArgs(ctx, lockKey(app), owner, redis.SetArgs{Mode: "NX", TTL: ttl}).Err()
	switch {
	case errors.Is(err, redis.Nil): // the key exists
		return false, nil
	case err != nil:
		return false, fmt.Errorf("lock the token in Redis: %w", err)
	}
	return true, nil
}

// unlockScript releases the lock if the owner still holds it.
//
// KEYS[1] lock key; ARGV[1] owner. Output: 1 released, 0 held by another.
var unlockScript = redis.NewScript(`
if redis.call("GET", KEYS[1]) == ARGV[1] then
  return redis.call("DEL", KEYS[1])
end
return 0
`)

func (s tokenStore) unlock(ctx context.Context, app, owner string) error {
	if err := unlockScript.Run(ctx, s.rdb, []string{lockKey(app)}, owner).Err(); err != nil {
		return fmt.Errorf("unlock the token in Redis: %w", err)
	}
	return nil
}

// saveScript stores a new token, deletes the failure and releases the lock, if the owner still
// holds the lock. If not, it does nothing, because a newer token may be stored. A failure of
// kind "rejected" stays while it is about the stored token.
//
// KEYS[1] token key, KEYS[2] lock key, KEYS[3] failure key
// ARGV[1] owner, ARGV[2] value, ARGV[3] expires_at_ms, ARGV[4] fetched_at_ms,
// ARGV[5] mode, ARGV[6] the key's TTL in ms, ARGV[7] SHA-256 of value, ARGV[8] asked
// Output: 1 stored, 0 the lock was lost
var saveScript = redis.NewScript(`
if redis.call("GET", KEYS[2]) ~= ARGV[1] then
  return 0
end
redis.call("DEL", KEYS[1])
redis.call("HSET", KEYS[1], "value", ARGV[2], "expires_at_ms", ARGV[3], "fetched_at_ms", ARGV[4], "mode", ARGV[5], "asked", ARGV[8])
redis.call("PEXPIRE", KEYS[1], ARGV[6])
if redis.call("HGET", KEYS[3], "rejected") ~= ARGV[7] then
  redis.call("DEL", KEYS[3])
end
redis.call("DEL", KEYS[2])
return 1
`)

func (s tokenStore) save(ctx context.Context, app, owner string, t sharedToken) (bool, error) {
	saved, err := saveScript.Run(ctx, s.rdb, []string{tokenKey(app), lockKey(app), failKey(app)},
		owner, t.Value.Reveal(), t.ExpiresAt.UnixMilli(), t.fetchedAt.UnixMilli(), t.mode,
		(t.life + tokenKeyGrace).Milliseconds(), tokenHash(t.Value), t.asked).Bool()
	if err != nil {
		return false, fmt.Errorf("store the token in Redis: %w", err)
	}
	return saved, nil
}

// failScript stores a failure and releases the lock, if the owner still holds the lock.
//
// KEYS[1] lock key, KEYS[2] failure key
// ARGV[1] owner, ARGV[2] the key's TTL in ms, ARGV[3…] fields and values
// Output: 1 stored, 0 the lock was lost
var failScript = redis.NewScript(`
if redis.call("GET", KEYS[1]) ~= ARGV[1] then
  return 0
end
redis.call("DEL", KEYS[2])
redis.call("HSET", KEYS[2], unpack(ARGV, 3))
redis.call("PEXPIRE", KEYS[2], ARGV[2])
redis.call("DEL", KEYS[1])
return 1
`)

func (s tokenStore) fail(ctx context.Context, app, owner string, f failure) error {
	ttl := failureBackoff(f.tries) + failureRetention
	args := append([]any{owner, ttl.Milliseconds()}, f.fields()...)
	if err := failScript.Run(ctx, s.rdb, []string{lockKey(app), failKey(app)}, args...).Err(); err != nil {
		return fmt.Errorf("store the failure in Redis: %w", err)
	}
	return nil
}

// forgetFailureScript deletes a failure, unless it is about a token that was refused and issued
// again: that the credentials work does not contradict it.
//
// KEYS[1] failure key; ARGV[1] the kind that stays. Output: 1 deleted, 0 none or kept
var forgetFailureScript = redis.NewScript(`
if redis.call("HGET", KEYS[1], "kind") == ARGV[1] then
  return 0
end
return redis.call("DEL", KEYS[1])
`)

func (s tokenStore) forgetFailure(ctx context.Context, app string) error {
	if err := forgetFailureScript.Run(ctx, s.rdb, []string{failKey(app)}, failedRejected).Err(); err != nil {
		return fmt.Errorf("delete the failure in Redis: %w", err)
	}
	return nil
}
