package ledger

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// Group is a consumer group on an app's stream, as one of its consumers uses it.
type Group struct {
	rdb                redis.UniversalClient
	app, name, member  string
	claimIdle, backoff time.Duration
}

// GroupConfig describes a Group.
type GroupConfig struct {
	App, Group string
	Consumer   string        // unique in the group
	ClaimIdle  time.Duration // time without news of a consumer, after which others get its entries
	Backoff    time.Duration // before the second delivery of an entry; doubles with each one, up to MaxGroupBackoff
}

// MaxGroupBackoff is the maximum time between two deliveries of an entry.
const MaxGroupBackoff = 5 * time.Minute

// NewGroup returns a Group. It does no I/O.
func NewGroup(rdb redis.UniversalClient, c GroupConfig) *Group {
	return &Group{rdb: rdb, app: c.App, name: c.Group, member: c.Consumer, claimIdle: c.ClaimIdle, backoff: c.Backoff}
}

// ErrNoGroup means that the group does not exist, or not any more.
var ErrNoGroup = errors.New("ledger: no such consumer group")

// groupError adds what was done to an error of Redis.
func groupError(did string, err error) error {
	if err != nil && strings.Contains(err.Error(), "NOGROUP") { // a script's error has a prefix
		err = ErrNoGroup
	}
	return fmt.Errorf("%s: %w", did, err)
}

// Delivery is an entry that this consumer got.
type Delivery struct {
	ID         string // of the entry
	Result     string // as recorded
	Deliveries int    // including this one
}

// Create creates the group at a position (the id of an entry), with the stream if there is none.
// It returns false if the group exists.
func (g *Group) Create(ctx context.Context, at string) (bool, error) {
	err := g.rdb.XGroupCreateMkStream(ctx, StreamKey(g.app), g.name, at).Err()
	if redis.HasErrorPrefix(err, "BUSYGROUP") {
		return false, nil
	}
	if err != nil {
		return false, groupError("create the consumer group", err)
	}
	return true, nil
}

// Position returns the id of the last entry that the group delivered.
func (g *Group) Position(ctx context.Context) (string, error) {
	groups, err := g.rdb.XInfoGroups(ctx, StreamKey(g.app)).Result()
	if err != nil && strings.Contains(err.Error(), "no such key") {
		err = ErrNoGroup
	}
	if err != nil {
		return "", groupError("read the consumer group", err)
	}
	for _, group := range groups {
		if group.Name == g.name {
			return group.LastDeliveredID, nil
		}
	}
	return "", groupError("read the consumer group", ErrNoGroup)
}

// Read waits for new entries, and delivers up to count of them to this consumer.
func (g *Group) Read(ctx context.Context, count int, wait time.Duration) ([]Delivery, error) {
	streams, err := g.rdb.XReadGroup(ctx, &redis.XReadGroupArgs{
		Group: g.name, Consumer: g.member, Streams: []string{StreamKey(g.app), ">"}, Count: int64(count), Block: wait,
	}).Result()
	if errors.Is(err, redis.Nil) || err == nil && len(streams) == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, groupError("read the results", err)
	}
	var all []Delivery
	for _, m := range streams[0].Messages {
		text, _ := m.Values["result"].(string)
		all = append(all, Delivery{ID: m.ID, Result: text, Deliveries: 1})
	}
	return all, nil
}

// claimScript delivers entries again: those whose function failed, and those of consumers that
// have not been heard of. XAUTOCLAIM is not used, since it does not know how often an entry was
// delivered, and in Redis 6.2 it returns entries that were removed in a form that clients cannot
// read.
//
// KEYS[1] stream
// ARGV[1] group, ARGV[2] consumer, ARGV[3] ms after which a consumer counts as dead, ARGV[4] ms
// before the second delivery and ARGV[5] before any, ARGV[6] maximum number of entries
//
// Returns {entries, removed}: entries is, flat, {id, deliveries, result} for each; removed are the
// ids of pending entries that are no longer in the stream. They are acknowledged.
var claimScript = redis.NewScript(`
local stream, group, consumer, most = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[6])
local entries, removed, from = {}, {}, "-"
for page = 1, 20 do
	local pending = redis.call("XPENDING", stream, group, "IDLE", ARGV[4], from, "+", 100)
	for _, p in ipairs(pending) do
		local id, owner, idle, deliveries = p[1], p[2], p[3], p[4]
		local wait = math.min(ARGV[4] * 2 ^ math.min(deliveries - 1, 30), tonumber(ARGV[5]))
		if owner ~= consumer then wait = math.max(wait, tonumber(ARGV[3])) end
		if idle >= wait then
			local entry = redis.call("XRANGE", stream, id, id)[1]
			if entry then
				redis.call("XCLAIM", stream, group, consumer, 0, id, "RETRYCOUNT", deliveries + 1, "JUSTID")
				entries[#entries + 1] = id
				entries[#entries + 1] = tostring(deliveries + 1)
				entries[#entries + 1] = entry[2][2] or ""
			else
				redis.call("XACK", stream, group, id)
				removed[#removed + 1] = id
			end
			if #entries >= 3 * most then return {entries, removed} end
		end
	end
	if #pending < 100 then break end
	local ms, seq = string.match(pending[#pending][1], "^(%d+)-(%d+)$")
	from = ms .. "-" .. string.format("%d", seq + 1)
end
return {entries, removed}
`)

// Claim delivers up to count entries again to this consumer: those that it failed to process and
// whose time has come, and those that a dead consumer left. It returns the ids of those that are
// no longer in the stream, too; they are acknowledged.
func (g *Group) Claim(ctx context.Context, count int) (all []Delivery, removed []string, err error) {
	reply, err := claimScript.Run(ctx, g.rdb, []string{StreamKey(g.app)}, g.name, g.member, g.claimIdle.Milliseconds(),
		max(g.backoff.Milliseconds(), 1), MaxGroupBackoff.Milliseconds(), count).Slice()
	if err != nil {
		return nil, nil, groupError("claim results", err)
	}
	texts := func(i int) (s []string) {
		if i < len(reply) {
			values, _ := reply[i].([]any)
			for _, v := range values {
				text, _ := v.(string)
				s = append(s, text)
			}
		}
		return s
	}
	for flat := texts(0); len(flat) >= 3; flat = flat[3:] {
		deliveries, _ := strconv.Atoi(flat[1])
		all = append(all, Delivery{ID: flat[0], Deliveries: deliveries, Result: flat[2]})
	}
	return all, texts(1), nil
}

// extendScript sets since when nothing was heard of a consumer about its entries. It leaves out
// entries that another one has claimed.
//
// KEYS[1] stream. ARGV[1] group, ARGV[2] consumer, ARGV[3] ms, ARGV[4…] ids
var extendScript = redis.NewScript(`
for i = 4, #ARGV do
	local p = redis.call("XPENDING", KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1, ARGV[2])[1]
	if p then redis.call("XCLAIM", KEYS[1], ARGV[1], ARGV[2], 0, ARGV[i], "IDLE", ARGV[3], "RETRYCOUNT", p[4], "JUSTID") end
end
return 1
`)

// Extend tells the group that this consumer is alive and still has the entries; with an idle time
// that it was last heard of so long ago.
func (g *Group) Extend(ctx context.Context, ids []string, idle time.Duration) error {
	if len(ids) == 0 {
		return nil
	}
	args := []any{g.name, g.member, idle.Milliseconds()}
	for _, id := range ids {
		args = append(args, id)
	}
	if err := extendScript.Run(ctx, g.rdb, []string{StreamKey(g.app)}, args...).Err(); err != nil {
		return groupError("keep the results", err)
	}
	return nil
}

// Ack acknowledges entries: the group does not deliver them again.
func (g *Group) Ack(ctx context.Context, ids ...string) error {
	if len(ids) == 0 {
		return nil
	}
	if err := g.rdb.XAck(ctx, StreamKey(g.app), g.name, ids...).Err(); err != nil {
		return groupError("acknowledge results", err)
	}
	return nil
}

// Pending returns how many entries this consumer has, and stops counting at most.
func (g *Group) Pending(ctx context.Context, most int) (int, error) {
	all, err := g.rdb.XPendingExt(ctx, &redis.XPendingExtArgs{
		Stream: StreamKey(g.app), Group: g.name, Start: "-", End: "+", Count: int64(most), Consumer: g.member,
	}).Result()
	if err != nil {
		return 0, groupError("count the pending results", err)
	}
	return len(all), nil
}

// forgetScript deletes consumers that have no entries: the given one and those that have not been
// heard of for long. To delete a consumer in use is harmless: its next read creates it.
//
// KEYS[1] stream. ARGV[1] group, ARGV[2] consumer or "", ARGV[3] ms
var forgetScript = redis.NewScript(`
for _, c in ipairs(redis.call("XINFO", "CONSUMERS", KEYS[1], ARGV[1])) do
	local of = {}
	for i = 1, #c, 2 do of[c[i]] = c[i + 1] end
	if of.pending == 0 and (of.name == ARGV[2] or of.idle > tonumber(ARGV[3])) then
		redis.call("XGROUP", "DELCONSUMER", KEYS[1], ARGV[1], of.name)
	end
end
return 1
`)

// Forget deletes the group's consumers that have no entries and have not been heard of for the
// given time; with own also this one.
func (g *Group) Forget(ctx context.Context, idle time.Duration, own bool) error {
	member := ""
	if own {
		member = g.member
	}
	if err := forgetScript.Run(ctx, g.rdb, []string{StreamKey(g.app)}, g.name, member, idle.Milliseconds()).Err(); err != nil {
		return groupError("delete unused consumers", err)
	}
	return nil
}
