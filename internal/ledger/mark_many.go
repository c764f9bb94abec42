package ledger

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// MarkRequest is one request of MarkMany.
type MarkRequest struct {
	Ref
	Queue, State string
	Enqueued     time.Time // by the producer's clock; kept to the microsecond
	// Digest identifies what the task sends: up to 8 letters, digits, - and _. A later request
	// for the same id with another digest gets Claim.Differs. An empty digest differs from none.
	Digest string
	// Receiver is the openid that the task is for, or ""; with Policy.IndexOpenIDs the task is found
	// by it. ProcessAt is when the task is due if that is later than Enqueued.
	Receiver  string
	ProcessAt time.Time
}

// MarkResult is the result of a MarkRequest.
type MarkResult struct {
	Claim
	Err error
}

// marksPerScript is how many ids one script claims. A script blocks Redis for some microseconds
// per id.
const marksPerScript = 50

// MarkMany is Mark for many tasks, in few round trips. The results are in the order of the
// requests, and fail independently. An id that occurs twice is new the first time and marked
// the second.
func (l *Ledger) MarkMany(ctx context.Context, requests []MarkRequest) []MarkResult {
	results := make([]MarkResult, len(requests))
	first, repeated := splitRepeated(requests)
	l.markGroups(ctx, requests, first, results)
	l.markGroups(ctx, requests, repeated, results)
	return results
}

// splitRepeated returns the indexes of the requests, and apart from them those of requests whose
// ids earlier ones have. In one pipeline a later request could be marked before an earlier one:
// those that Redis refused because it did not know the script yet are sent again.
func splitRepeated(requests []MarkRequest) (first, repeated []int) {
	type key struct{ app, id string }
	first, seen := make([]int, 0, len(requests)), make(map[key]bool, len(requests))
	for i := range requests {
		k := key{requests[i].App, requests[i].ID}
		if seen[k] {
			repeated = append(repeated, i)
			continue
		}
		seen[k] = true
		first = append(first, i)
	}
	return first, repeated
}

// markGroups marks the requests with these indexes, and sets their results.
func (l *Ledger) markGroups(ctx context.Context, requests []MarkRequest, indexes []int, results []MarkResult) {
	groups := groupMarks(requests, indexes)
	for _, g := range groups {
		g.complete(requests)
	}
	pushes := l.openidPushes(requests, indexes)
	runGroups(ctx, l.rdb, groups, pushes, markScript.EvalSha)
	var unknown []*markGroup // Redis does not have the script yet
	for _, g := range groups {
		if redis.HasErrorPrefix(g.reply.Err(), "NOSCRIPT") {
			unknown = append(unknown, g)
		}
	}
	runGroups(ctx, l.rdb, unknown, nil, markScript.Eval)
	for _, g := range groups {
		g.decode(requests, results)
	}
	l.noteNewLists(ctx, pushes)
	l.dropOthers(ctx, pushes, results)
}

// markGroup is the requests of one script call. They share an app, since a script's keys must
// have one hash tag, and a batch.
type markGroup struct {
	app, batch string
	indexes    []int // in the requests
	keys       []string
	args       []any
	reply      *redis.Cmd
}

// groupMarks divides the requests with these indexes into groups.
func groupMarks(requests []MarkRequest, indexes []int) []*markGroup {
	type kind struct{ app, batch string }
	open := make(map[kind]*markGroup, 1)
	var groups []*markGroup
	for _, i := range indexes {
		k := kind{requests[i].App, requests[i].Batch}
		g := open[k]
		if g == nil || len(g.indexes) == marksPerScript {
			g = &markGroup{app: k.app, batch: k.batch, indexes: make([]int, 0, min(marksPerScript, len(indexes)))}
			open[k] = g
			groups = append(groups, g)
		}
		g.indexes = append(g.indexes, i)
	}
	return groups
}

// complete sets the keys and arguments of a group.
func (g *markGroup) complete(requests []MarkRequest) {
	g.args = make([]any, 0, 2*len(g.indexes)+2)
	keys := make([]string, 0, 2*len(g.indexes)+3)
	var last time.Time
	for _, at := range g.indexes {
		m := &requests[at]
		keys = append(keys, TaskKey(m.App, m.ID), WaitingKey(m.App, m.ID))
		g.args = append(g.args, m.ID, markText(m))
		if m.Enqueued.After(last) {
			last = m.Enqueued
		}
	}
	if g.keys = (Ref{App: g.app, Batch: g.batch}).keys(keys...); g.batch != "" {
		g.keys = append(g.keys, batchesKey(g.app))
		g.args = append(g.args, g.batch, max(last.UnixMicro(), 0))
	}
}

// due returns when the task may be sent at the earliest.
func (m *MarkRequest) due() time.Time {
	switch {
	case m.ProcessAt.After(m.Enqueued):
		return m.ProcessAt
	case m.Enqueued.IsZero():
		return time.Now()
	}
	return m.Enqueued
}

// runGroups runs a script for each group, and sets the groups' replies, which contain the errors. The
// pushes go with them.
func runGroups(ctx context.Context, rdb redis.UniversalClient, groups []*markGroup, pushes []openidPush,
	run func(context.Context, redis.Scripter, []string, ...any) *redis.Cmd,
) {
	switch {
	case len(groups) == 0:
		return
	case len(groups) == 1 && len(pushes) == 0: // a single command does not occupy a connection for a pipeline
		groups[0].reply = run(ctx, rdb, groups[0].keys, groups[0].args...)
		return
	}
	pipe := rdb.Pipeline()
	for _, g := range groups {
		g.reply = run(ctx, pipe, g.keys, g.args...)
	}
	for i := range pushes {
		pushes[i].reply = pipe.RPush(ctx, pushes[i].list, pushes[i].elements...)
	}
	_, _ = pipe.Exec(ctx) // each command has its own error
}

// decode sets the results of the group's requests from its reply.
func (g *markGroup) decode(requests []MarkRequest, results []MarkResult) {
	reply, err := g.reply.StringSlice()
	if err == nil && len(reply) != 3*len(g.indexes) {
		err = fmt.Errorf("unexpected reply of %d values", len(reply))
	}
	for i, at := range g.indexes {
		if err != nil {
			results[at].Err = fmt.Errorf("mark the task: %w", err)
			continue
		}
		switch status, text, digest := reply[3*i], reply[3*i+1], reply[3*i+2]; status {
		case "refused":
			results[at].Err = fmt.Errorf("mark the task: %w", scriptError(text))
		case "new":
			results[at].Claim = Claim{New: true, Queue: fullQueue(g.app, requests[at].Queue)}
		default:
			mine := requests[at].Digest
			results[at].Claim = Claim{
				Done: status == "done", Queue: fullQueue(g.app, text),
				Differs: digest != "" && mine != "" && digest != mine,
			}
		}
	}
}

// updateDigestScript sets the digest of a known task, in its mark or its record.
//
// KEYS[1] record, KEYS[2] marks. ARGV[1] id, ARGV[2] digest
var updateDigestScript = redis.NewScript(readMarkLua + `
local enqueued, queue, state = read(redis.call("HGET", KEYS[2], ARGV[1]) or "")
if queue then
	redis.call("HSET", KEYS[2], ARGV[1], enqueued .. " " .. queue .. " " .. state .. "#" .. ARGV[2])
elseif redis.call("EXISTS", KEYS[1]) == 1 then
	redis.call("HSET", KEYS[1], "digest", ARGV[2])
end
return 1
`)

// UpdateDigest replaces the digest of a task, and indexes its receiver. It is needed when the first call
// under its id failed after Mark and before the task was enqueued, and a later call enqueues another
// content.
func (l *Ledger) UpdateDigest(ctx context.Context, app, id, digest, receiver string) error {
	if l.policy.IndexOpenIDs && receiver != "" {
		l.index(ctx, newOpenIDPush(app, id, receiver, openidDay(time.Now())))
	}
	if err := updateDigestScript.Run(ctx, l.rdb, []string{TaskKey(app, id), WaitingKey(app, id)}, id, digest).Err(); err != nil {
		return fmt.Errorf("mark the task: %w", err)
	}
	return nil
}

// scriptError is an error that a script received from Redis and returned as text. It behaves
// like an error of go-redis.
type scriptError string

func (r scriptError) Error() string { return string(r) }

// RedisError makes it a redis.Error, for [redis.HasErrorPrefix].
func (r scriptError) RedisError() {}
