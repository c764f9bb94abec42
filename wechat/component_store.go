package wechat

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// ticketLife is how long a component_verify_ticket is valid:
// https://developers.weixin.qq.com/doc/oplatform/Third-party_Platforms/2.0/api/Before_Develop/component_verify_ticket.html
const ticketLife = 12 * time.Hour

// ticketKey returns the key of a provider's last ticket, a hash: value, created_ms (by WeChat's
// clock). It expires with the ticket.
func ticketKey(provider string) string { return "wxcourier:{" + provider + "}:ticket" }

// ticketsStartedKey returns the key that is there while the last call of api_start_push_ticket is
// recent: an empty string with a TTL.
func ticketsStartedKey(provider string) string { return "wxcourier:{" + provider + "}:ticket:started" }

// authorizationKey returns the key of an account's authorization, a hash: provider, refresh_token
// (absent after the account took the authorization back), event_ms (of the last event that was
// handled, by WeChat's clock) and code (SHA-256 of the code that was exchanged last). It does not
// expire.
func authorizationKey(app string) string { return "wxcourier:{" + app + "}:authorization" }

// authorization is an account's authorization as stored in Redis.
type authorization struct {
	provider string
	refresh  Secret
	event    time.Time
	code     string
}

// authorization returns the account's authorization; it may be zero.
func (s tokenStore) authorization(ctx context.Context, app string) (authorization, error) {
	f, err := s.rdb.HGetAll(ctx, authorizationKey(app)).Result()
	if err != nil {
		return authorization{}, fmt.Errorf("read the authorization from Redis: %w", err)
	}
	return authorization{provider: f["provider"], refresh: Secret(f["refresh_token"]), event: unixMilli(f["event_ms"]), code: f["code"]}, nil
}

// extendScript extends the refresh lock, if the owner still holds it.
//
// KEYS[1] lock key; ARGV[1] owner, ARGV[2] TTL in ms. Output: 1 extended, 0 the lock was lost
var extendScript = redis.NewScript(`
if redis.call("GET", KEYS[1]) ~= ARGV[1] then
  return 0
end
return redis.call("PEXPIRE", KEYS[1], ARGV[2])
`)

// extend extends the refresh lock before another request; errLockLost means that it was lost.
func (s tokenStore) extend(ctx context.Context, app, owner string, ttl time.Duration) error {
	held, err := extendScript.Run(ctx, s.rdb, []string{lockKey(app)}, owner, ttl.Milliseconds()).Bool()
	switch {
	case err != nil:
		return fmt.Errorf("extend the lock in Redis: %w", err)
	case !held:
		return errLockLost
	}
	return nil
}

// keepRefreshScript stores a refresh token that an answer told, unless Redis no longer has the one of the
// request: then an event has brought a newer one, or the account took its authorization back.
//
// KEYS[1] authorization key
// ARGV[1] provider, ARGV[2] the refresh token that Redis had at the request or "", ARGV[3] that of the answer
// Output: 1 stored, 0 not
var keepRefreshScript = redis.NewScript(`
local provider = redis.call("HGET", KEYS[1], "provider")
local stored = redis.call("HGET", KEYS[1], "refresh_token")
if provider == ARGV[1] and (stored or "") ~= ARGV[2] and stored ~= ARGV[3] then
  return 0
end
redis.call("HSET", KEYS[1], "provider", ARGV[1], "refresh_token", ARGV[3])
return 1
`)

func (s tokenStore) keepRefresh(ctx context.Context, app, provider string, used, told Secret) error {
	err := keepRefreshScript.Run(ctx, s.rdb, []string{authorizationKey(app)}, provider, used.Reveal(), told.Reveal()).Err()
	if err != nil {
		return fmt.Errorf("store the refresh token in Redis: %w", err)
	}
	return nil
}

// authorizeScript stores what the exchange of an authorization code gave, and releases the lock.
// Without an access token the old one is deleted: it is of the authorization before.
//
// KEYS[1] authorization key, KEYS[2] token key, KEYS[3] lock key, KEYS[4] failure key
// ARGV[1] owner, ARGV[2] provider, ARGV[3] refresh token, ARGV[4] event_ms, ARGV[5] SHA-256 of the code,
// ARGV[6] value of the token or "", ARGV[7] expires_at_ms, ARGV[8] fetched_at_ms, ARGV[9] mode,
// ARGV[10] asked, ARGV[11] the token key's TTL in ms
// Output: 1 stored, 0 the lock was lost and nothing stored
var authorizeScript = redis.NewScript(`
if redis.call("GET", KEYS[3]) ~= ARGV[1] then
  return 0
end
redis.call("HSET", KEYS[1], "provider", ARGV[2], "refresh_token", ARGV[3], "event_ms", ARGV[4], "code", ARGV[5])
redis.call("DEL", KEYS[2], KEYS[3], KEYS[4])
if ARGV[6] ~= "" then
  redis.call("HSET", KEYS[2], "value", ARGV[6], "expires_at_ms", ARGV[7], "fetched_at_ms", ARGV[8], "mode", ARGV[9], "asked", ARGV[10])
  redis.call("PEXPIRE", KEYS[2], ARGV[11])
end
return 1
`)

func (s tokenStore) authorize(ctx context.Context, owner, app string, a authorization, t sharedToken) error {
	stored, err := authorizeScript.Run(ctx, s.rdb, []string{authorizationKey(app), tokenKey(app), lockKey(app), failKey(app)},
		owner, a.provider, a.refresh.Reveal(), a.event.UnixMilli(), a.code,
		t.Value.Reveal(), t.ExpiresAt.UnixMilli(), t.fetchedAt.UnixMilli(), t.mode, t.asked, (t.life + tokenKeyGrace).Milliseconds()).Bool()
	switch {
	case err != nil:
		return fmt.Errorf("store the authorization in Redis: %w", err)
	case !stored:
		return errLockLost
	}
	return nil
}

// deauthorizeScript deletes the refresh token and the token of an account that took its authorization
// back, and the refresh lock, so that a refresh under way stores no token, unless the event is older than the last one or of another provider. WeChat's times are whole
// seconds: of two events in one, the authorization counts, since a call shows whether it is still good.
//
// KEYS[1] authorization key, KEYS[2] token key, KEYS[3] lock key; ARGV[1] provider, ARGV[2] event_ms
// Output: 1 done, 0 the event is out of date
var deauthorizeScript = redis.NewScript(`
local provider = redis.call("HGET", KEYS[1], "provider")
local event = tonumber(redis.call("HGET", KEYS[1], "event_ms") or "0")
if provider and provider ~= ARGV[1] or event > tonumber(ARGV[2])
  or event == tonumber(ARGV[2]) and redis.call("HEXISTS", KEYS[1], "refresh_token") == 1 then
  return 0
end
redis.call("HSET", KEYS[1], "provider", ARGV[1], "event_ms", ARGV[2])
redis.call("HDEL", KEYS[1], "refresh_token", "code")
redis.call("DEL", KEYS[2], KEYS[3])
return 1
`)

func (s tokenStore) deauthorize(ctx context.Context, provider, app string, at time.Time) (bool, error) {
	done, err := deauthorizeScript.Run(ctx, s.rdb, []string{authorizationKey(app), tokenKey(app), lockKey(app)}, provider, at.UnixMilli()).Bool()
	if err != nil {
		return false, fmt.Errorf("delete the authorization in Redis: %w", err)
	}
	return done, nil
}

// storeTicketScript stores a ticket, unless a later one is stored, and ends the backoff of a provider
// that had none.
//
// KEYS[1] ticket key, KEYS[2] failure key
// ARGV[1] value, ARGV[2] created_ms, ARGV[3] TTL in ms, ARGV[4] the kind of failure that ends
// Output: 2 the first ticket, 1 stored, 0 a later one is there
var storeTicketScript = redis.NewScript(`
local created = redis.call("HGET", KEYS[1], "created_ms")
if created and tonumber(created) > tonumber(ARGV[2]) then
  return 0
end
redis.call("HSET", KEYS[1], "value", ARGV[1], "created_ms", ARGV[2])
redis.call("PEXPIRE", KEYS[1], ARGV[3])
if redis.call("HGET", KEYS[2], "kind") == ARGV[4] then
  redis.call("DEL", KEYS[2])
  return 2
end
return created and 1 or 2
`)

func (s tokenStore) storeTicket(ctx context.Context, provider string, ticket Secret, created time.Time, left time.Duration) (first bool, err error) {
	n, err := storeTicketScript.Run(ctx, s.rdb, []string{ticketKey(provider), failKey(provider)},
		ticket.Reveal(), created.UnixMilli(), left.Milliseconds(), failedNoTicket).Int()
	if err != nil {
		return false, fmt.Errorf("store the ticket in Redis: %w", err)
	}
	return n == 2, nil
}

// ticket returns a provider's last ticket, "" for none.
func (s tokenStore) ticket(ctx context.Context, provider string) (value Secret, created time.Time, err error) {
	f, err := s.rdb.HGetAll(ctx, ticketKey(provider)).Result()
	if err != nil {
		return "", time.Time{}, fmt.Errorf("read the ticket from Redis: %w", err)
	}
	return Secret(f["value"]), unixMilli(f["created_ms"]), nil
}

// claimTicketStart reports whether this process may call api_start_push_ticket now: of all processes
// one does so within a time.
func (s tokenStore) claimTicketStart(ctx context.Context, provider string, pause time.Duration) (bool, error) {
	err := s.rdb.SetArgs(ctx, ticketsStartedKey(provider), "", redis.SetArgs{Mode: "NX", TTL: pause}).Err()
	if errors.Is(err, redis.Nil) {
		return false, nil
	}
	return err == nil, err
}
