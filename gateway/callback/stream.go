package callback

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// appsKey is the set of the apps that have a stream of pushes.
const appsKey = "wxcourier:pushes"

// streamKey returns the key of the stream of an app's pushes that are not handled yet; each entry has
// one field, `push`.
func streamKey(app string) string { return "wxcourier:{" + app + "}:pushes" }

// leaseKey returns the key of the owner that handles an app's pushes.
func leaseKey(app string) string { return streamKey(app) + ":lease" }

// seenKey returns the key that exists while repetitions of a push are dropped.
func seenKey(app, identity string) string { return "wxcourier:{" + app + "}:push:" + identity }

// forwardedKey returns the key that exists since a push was first forwarded; its expiry tells when that was.
func forwardedKey(app, identity string) string { return "wxcourier:{" + app + "}:fwd:" + identity }

// storeScript stores pushes to one app, but for those that were stored before.
//
// KEYS[1] stream, KEYS[2…] seenKey of each push
// ARGV[1] ms for which repetitions are dropped, ARGV[2] maximum number of entries, ARGV[3…] the pushes
//
// Returns the number of entries that were cut, then 1 or 0 per push: stored, or a repetition.
var storeScript = redis.NewScript(`
local reply = {0}
for i = 2, #KEYS do
	if redis.call("SET", KEYS[i], "", "NX", "PX", ARGV[1]) then
		redis.call("XADD", KEYS[1], "*", "push", ARGV[i + 1])
		reply[i] = 1
	else
		reply[i] = 0
	end
end
if redis.call("XLEN", KEYS[1]) > tonumber(ARGV[2]) then
	reply[1] = redis.call("XTRIM", KEYS[1], "MAXLEN", "=", ARGV[2])
end
return reply
`)

// nextScript removes entries that were handled, and returns the next ones to the owner of the stream:
// the caller, if there is none. It gives the stream up when it is empty, so that the
// gateway that adds the next entry becomes the owner.
//
// KEYS[1] lease, KEYS[2] stream
// ARGV[1] owner, ARGV[2] ms of the lease, ARGV[3] maximum number of entries, ARGV[4…] ids to remove
//
// Returns false if the stream has another owner, else, flat, id, push and since (see moveScript) of each
// entry.
var nextScript = redis.NewScript(`
if #ARGV > 3 then redis.call("XDEL", KEYS[2], unpack(ARGV, 4)) end
local owner = redis.call("GET", KEYS[1])
if owner and owner ~= ARGV[1] then return false end
local reply = {}
for _, entry in ipairs(redis.call("XRANGE", KEYS[2], "-", "+", "COUNT", ARGV[3])) do
	reply[#reply + 1] = entry[1]
	reply[#reply + 1] = entry[2][2] or ""
	reply[#reply + 1] = entry[2][4] or ""
end
if #reply == 0 then
	if owner then redis.call("DEL", KEYS[1]) end
else
	redis.call("SET", KEYS[1], ARGV[1], "PX", ARGV[2])
end
return reply
`)

// moveScript moves an entry to the end of its stream. KEYS[1] stream; ARGV[1] id, ARGV[2] push, ARGV[3]
// since: the time of its first entry, in ms since 1970.
var moveScript = redis.NewScript(`
if redis.call("XDEL", KEYS[1], ARGV[1]) == 1 then
	redis.call("XADD", KEYS[1], "*", "push", ARGV[2], "since", ARGV[3])
end
return 0
`)

// releaseScript gives a stream up. KEYS[1] lease, ARGV[1] owner.
var releaseScript = redis.NewScript(`
if redis.call("GET", KEYS[1]) == ARGV[1] then return redis.call("DEL", KEYS[1]) end
return 0
`)

// store writes rounds of pushes.
type store struct {
	rdb    redis.UniversalClient
	window time.Duration // for which repetitions are dropped
	most   int           // entries of a stream
	cut    func(app string, entries int64)
}

// write stores the pushes of one round, in their order, and sets their results. Those of an app succeed
// or fail together. announce are apps that may not be in the set of the apps.
func (s store) write(ctx context.Context, round []*entry, announce []string) error {
	byApp := make(map[string][]*entry)
	var apps []string
	for _, e := range round {
		if byApp[e.app] == nil {
			apps = append(apps, e.app)
		}
		byApp[e.app] = append(byApp[e.app], e)
	}
	pipe := s.rdb.Pipeline()
	var announced *redis.IntCmd
	if len(announce) > 0 {
		announced = pipe.SAdd(ctx, appsKey, announce)
	}
	replies := make([]*redis.Cmd, len(apps))
	for i, app := range apps {
		keys, args := s.call(app, byApp[app])
		replies[i] = pipe.EvalSha(ctx, storeScript.Hash(), keys, args...)
	}
	_, _ = pipe.Exec(ctx) // each command has its own error
	for i, app := range apps {
		reply := replies[i]
		if redis.HasErrorPrefix(reply.Err(), "NOSCRIPT") {
			keys, args := s.call(app, byApp[app])
			reply = storeScript.Eval(ctx, s.rdb, keys, args...)
		}
		s.settle(app, byApp[app], reply)
	}
	if announced != nil {
		return announced.Err()
	}
	return nil
}

// call returns the keys and arguments of storeScript.
func (s store) call(app string, all []*entry) (keys []string, args []any) {
	keys, args = append(make([]string, 0, len(all)+1), streamKey(app)), append(make([]any, 0, len(all)+2), s.window.Milliseconds(), s.most)
	for _, e := range all {
		keys, args = append(keys, seenKey(app, e.identity)), append(args, e.text)
	}
	return keys, args
}

// settle sets the results of an app's pushes.
func (s store) settle(app string, all []*entry, reply *redis.Cmd) {
	flags, err := reply.Int64Slice()
	if err == nil && len(flags) != len(all)+1 {
		err = errors.New("an unexpected reply")
	}
	if err != nil {
		err = fmt.Errorf("callback: store pushes: %w", err)
	}
	for i, e := range all {
		if e.err = err; err == nil {
			e.fresh = flags[i+1] == 1
		}
	}
	if err == nil && flags[0] > 0 {
		s.cut(app, flags[0])
	}
}

// stored is an entry of a stream. since is "" unless the entry was moved, see moveScript.
type stored struct{ id, text, since string }

// added returns when a push was added, by the clock of Redis.
func (s stored) added() time.Time {
	ms, _, _ := strings.Cut(cmp.Or(s.since, s.id), "-")
	n, err := strconv.ParseInt(ms, 10, 64)
	if err != nil {
		return time.Time{}
	}
	return time.UnixMilli(n)
}

// next removes entries that were handled, and returns up to count others; see nextScript. owned is false
// while another gateway handles the app.
func (r *Receiver) next(ctx context.Context, app string, count int, handled []stored) (entries []stored, owned bool, err error) {
	args := []any{r.owner, r.tuning.lease.Milliseconds(), count}
	for _, e := range handled {
		args = append(args, e.id)
	}
	flat, err := nextScript.Run(ctx, r.deps.Redis, []string{leaseKey(app), streamKey(app)}, args...).StringSlice()
	if errors.Is(err, redis.Nil) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("callback: read pushes: %w", err)
	}
	for e := range slices.Chunk(flat, 3) {
		entries = append(entries, stored{id: e[0], text: e[1], since: e[2]})
	}
	return entries, true, nil
}

// move moves an entry to the end of the stream of an app.
func (r *Receiver) move(ctx context.Context, app string, e stored) error {
	return moveScript.Run(ctx, r.deps.Redis, []string{streamKey(app)}, e.id, e.text, e.added().UnixMilli()).Err()
}

// release removes entries that were handled and gives an app up, for other gateways.
func (r *Receiver) release(ctx context.Context, app string, handled []stored) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if len(handled) > 0 {
		ids := make([]string, len(handled))
		for i, e := range handled {
			ids[i] = e.id
		}
		_ = r.deps.Redis.XDel(ctx, streamKey(app), ids...).Err() // else they are handled again, which changes nothing
	}
	_ = releaseScript.Run(ctx, r.deps.Redis, []string{leaseKey(app)}, r.owner).Err() // else it expires
}

// Waiting returns how many stored pushes of an app were not handled yet.
func Waiting(ctx context.Context, rdb redis.UniversalClient, app string) (int64, error) {
	return rdb.XLen(ctx, streamKey(app)).Result()
}
