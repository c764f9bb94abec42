package ledger

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// Marking is what Mark is asked for.
type Marking struct {
	Ref
	Queue, State string
	Enqueued     time.Time // by the producer's clock; kept to the microsecond
	// Digest stands for what the task sends: up to 8 letters, digits, - and _. A task of
	// the same id with another digest is told so; an empty digest differs from none.
	Digest string
}

// Marked is the answer to a Marking.
type Marked struct {
	Claim
	Err error
}

// marksPerScript is how many ids one script claims. Redis does nothing else meanwhile, for
// some microseconds an id.
const marksPerScript = 50

// MarkMany is Mark for many tasks, in few round trips. The answers are in the order of
// the markings; one that fails leaves the others alone. An id that is there twice is
// new the first time and marked the second.
func (l *Ledger) MarkMany(ctx context.Context, markings []Marking) []Marked {
	answers := make([]Marked, len(markings))
	groups := groupMarkings(markings)
	for _, g := range groups {
		g.args = make([]any, 0, 2*len(g.indexes))
		keys := make([]string, 0, 2*len(g.indexes)+2)
		for _, at := range g.indexes {
			m := &markings[at]
			keys = append(keys, TaskKey(m.App, m.ID), WaitingKey(m.App, m.ID))
			g.args = append(g.args, m.ID, markText(m))
		}
		g.keys = Ref{App: g.app, Batch: g.batch}.keys(keys...)
	}
	runGroups(ctx, l.rdb, groups, markScript.EvalSha)
	var unknown []*markGroup // to a Redis that has not seen the script
	for _, g := range groups {
		if redis.HasErrorPrefix(g.reply.Err(), "NOSCRIPT") {
			unknown = append(unknown, g)
		}
	}
	runGroups(ctx, l.rdb, unknown, markScript.Eval)
	for _, g := range groups {
		g.decode(markings, answers)
	}
	return answers
}

// markGroup is markings that one script takes: they share an app, since scripts keep to one
// hash tag, and a batch.
type markGroup struct {
	app, batch string
	indexes    []int // in the markings
	keys       []string
	args       []any
	reply      *redis.Cmd
}

// groupMarkings keeps the order of equal ids: they are in one group, or in groups that follow
// each other.
func groupMarkings(markings []Marking) []*markGroup {
	type kind struct{ app, batch string }
	open := make(map[kind]*markGroup, 1)
	var groups []*markGroup
	for i := range markings {
		k := kind{markings[i].App, markings[i].Batch}
		g := open[k]
		if g == nil || len(g.indexes) == marksPerScript {
			g = &markGroup{app: k.app, batch: k.batch, indexes: make([]int, 0, min(marksPerScript, len(markings)))}
			open[k] = g
			groups = append(groups, g)
		}
		g.indexes = append(g.indexes, i)
	}
	return groups
}

// runGroups runs a script for each group. What went wrong stands in the replies.
func runGroups(ctx context.Context, rdb redis.UniversalClient, groups []*markGroup,
	run func(context.Context, redis.Scripter, []string, ...any) *redis.Cmd,
) {
	switch len(groups) {
	case 0:
		return
	case 1: // it needs no connection of go-redis' few for pipelines
		groups[0].reply = run(ctx, rdb, groups[0].keys, groups[0].args...)
		return
	}
	pipe := rdb.Pipeline()
	for _, g := range groups {
		g.reply = run(ctx, pipe, g.keys, g.args...)
	}
	_, _ = pipe.Exec(ctx) // each command has its own error
}

func (g *markGroup) decode(markings []Marking, answers []Marked) {
	reply, err := g.reply.StringSlice()
	if err == nil && len(reply) != 3*len(g.indexes) {
		err = fmt.Errorf("a reply of %d parts", len(reply))
	}
	for i, at := range g.indexes {
		if err != nil {
			answers[at].Err = fmt.Errorf("mark the task: %w", err)
			continue
		}
		switch word, rest, digest := reply[3*i], reply[3*i+1], reply[3*i+2]; word {
		case "refused":
			answers[at].Err = fmt.Errorf("mark the task: %w", scriptError(rest))
		case "new":
			answers[at].Claim = Claim{New: true, Queue: fullQueue(g.app, markings[at].Queue)}
		default:
			mine := markings[at].Digest
			answers[at].Claim = Claim{
				Done: word == "done", Queue: fullQueue(g.app, rest),
				Differs: digest != "" && mine != "" && digest != mine,
			}
		}
	}
}

// redigestScript sets the digest of a task that is known, in its mark or its record.
//
// KEYS[1] record, KEYS[2] marks. ARGV[1] id, ARGV[2] digest
var redigestScript = redis.NewScript(readMarkLua + `
local enqueued, queue, state = read(redis.call("HGET", KEYS[2], ARGV[1]) or "")
if queue then
	redis.call("HSET", KEYS[2], ARGV[1], enqueued .. " " .. queue .. " " .. state .. "#" .. ARGV[2])
elseif redis.call("EXISTS", KEYS[1]) == 1 then
	redis.call("HSET", KEYS[1], "digest", ARGV[2])
end
return 1
`)

// Redigest says that a task sends something else than its mark told: the first call under
// its id broke off before it was enqueued.
func (l *Ledger) Redigest(ctx context.Context, app, id, digest string) error {
	if err := redigestScript.Run(ctx, l.rdb, []string{TaskKey(app, id), WaitingKey(app, id)}, id, digest).Err(); err != nil {
		return fmt.Errorf("mark the task: %w", err)
	}
	return nil
}

// scriptError is an error that Redis gave to a script; to go-redis it is as one of its own.
type scriptError string

func (r scriptError) Error() string { return string(r) }

// RedisError marks it for [redis.HasErrorPrefix].
func (r scriptError) RedisError() {}
