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

// markAtOnce is how many ids one script claims. Redis does nothing else meanwhile, for
// some microseconds an id.
const markAtOnce = 50

// MarkMany is Mark for many tasks, in few round trips. The answers are in the order of
// the markings; one that fails leaves the others alone. An id that is there twice is
// new the first time and marked the second.
func (l *Ledger) MarkMany(ctx context.Context, markings []Marking) []Marked {
	answers := make([]Marked, len(markings))
	groups := grouped(markings)
	for _, g := range groups {
		g.args = make([]any, 0, 2*len(g.places))
		keys := make([]string, 0, 2*len(g.places)+2)
		for _, at := range g.places {
			m := &markings[at]
			keys = append(keys, TaskKey(m.App, m.ID), WaitingKey(m.App, m.ID))
			g.args = append(g.args, m.ID, markText(m))
		}
		g.keys = Ref{App: g.app, Batch: g.batch}.keys(keys...)
	}
	pipelined(ctx, l.rdb, groups, mark.EvalSha)
	var unknown []*group // to a Redis that has not seen the script
	for _, g := range groups {
		if redis.HasErrorPrefix(g.reply.Err(), "NOSCRIPT") {
			unknown = append(unknown, g)
		}
	}
	pipelined(ctx, l.rdb, unknown, mark.Eval)
	for _, g := range groups {
		g.read(markings, answers)
	}
	return answers
}

// group is markings that one script takes: they share an app, since scripts keep to one
// hash tag, and a batch.
type group struct {
	app, batch string
	places     []int // in the markings
	keys       []string
	args       []any
	reply      *redis.Cmd
}

// grouped keeps the order of equal ids: they are in one group, or in groups that follow
// each other.
func grouped(markings []Marking) []*group {
	type kind struct{ app, batch string }
	open := make(map[kind]*group, 1)
	var groups []*group
	for i := range markings {
		k := kind{markings[i].App, markings[i].Batch}
		g := open[k]
		if g == nil || len(g.places) == markAtOnce {
			g = &group{app: k.app, batch: k.batch, places: make([]int, 0, min(markAtOnce, len(markings)))}
			open[k] = g
			groups = append(groups, g)
		}
		g.places = append(g.places, i)
	}
	return groups
}

// pipelined runs a script for each group. What went wrong stands in the replies.
func pipelined(ctx context.Context, rdb redis.UniversalClient, groups []*group,
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

func (g *group) read(markings []Marking, answers []Marked) {
	reply, err := g.reply.StringSlice()
	if err == nil && len(reply) != 3*len(g.places) {
		err = fmt.Errorf("a reply of %d parts", len(reply))
	}
	for i, at := range g.places {
		if err != nil {
			answers[at].Err = fmt.Errorf("mark the task: %w", err)
			continue
		}
		switch word, rest, digest := reply[3*i], reply[3*i+1], reply[3*i+2]; word {
		case "refused":
			answers[at].Err = fmt.Errorf("mark the task: %w", refusal(rest))
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

// redigest sets the digest of a task that is known, in its mark or its record.
//
// KEYS[1] record, KEYS[2] marks. ARGV[1] id, ARGV[2] digest
var redigest = redis.NewScript(readMark + `
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
	if err := redigest.Run(ctx, l.rdb, []string{TaskKey(app, id), WaitingKey(app, id)}, id, digest).Err(); err != nil {
		return fmt.Errorf("mark the task: %w", err)
	}
	return nil
}

// refusal is an error that Redis gave to a script; to go-redis it is as one of its own.
type refusal string

func (r refusal) Error() string { return string(r) }

// RedisError marks it for [redis.HasErrorPrefix].
func (r refusal) RedisError() {}
