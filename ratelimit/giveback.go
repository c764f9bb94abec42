package ratelimit

import (
	"cmp"
	"context"
	"fmt"
	"slices"
)

// maxPairs is the maximum number of pairs in one command, which bounds the run time of the
// script. A lane's stock has a handful of pairs: its instants lie within half a second, and it
// was granted in a few blocks.
const maxPairs = 64

// groupCount is the number of permits with one key, such as their bucket.
type groupCount struct{ key, count int64 }

// giveBack undoes takes. Permits that were granted on the same terms go in one command. With
// idle, the lane is removed from the lanes that share the rows.
func (l *Limiter) giveBack(ctx context.Context, permits []*Permit, idle bool) error {
	slices.SortFunc(permits, func(a, b *Permit) int {
		return cmp.Or(cmp.Compare(b.grant.seq(), a.grant.seq()), cmp.Compare(b.instant, a.instant))
	})
	for len(permits) > 0 {
		first := permits[0]
		var batch, rest []*Permit
		for _, p := range permits {
			if p.sameTerms(first) {
				batch = append(batch, p)
			} else {
				rest = append(rest, p)
			}
		}
		if err := l.giveBackBatch(ctx, batch, idle); err != nil {
			return fmt.Errorf("give back permits for %s of %s: %w", first.grant.plan.typ, first.grant.plan.app, err)
		}
		permits = rest
	}
	return nil
}

// giveBackBatch gives back permits of the same terms as sums: the number of permits per bucket
// and per day, and the run of the latest instants. Pairs beyond maxPairs go in further commands,
// which count no permit twice.
func (l *Limiter) giveBackBatch(ctx context.Context, batch []*Permit, idle bool) error {
	g, id := batch[0].grant, ""
	if idle {
		id = l.laneID(g.plan)
	}
	buckets := countBy(batch, func(p *Permit) int64 { return p.instant / bucket.Microseconds() })
	days := countBy(batch, func(p *Permit) int64 { return dayPeriodStart(p.grant.now) })
	total, run := len(batch), latestRun(batch)
	for total > 0 || len(buckets) > 0 || len(days) > 0 {
		var b, d []groupCount
		b, buckets = split(buckets)
		d, days = split(days)
		args := []any{l.now(), id, bucket.Microseconds(), bucketTTL.Microseconds(), midnightSkew.Microseconds(), len(g.terms)}
		args = append(args, total, batch[0].instant, run.length, run.step, len(b), len(d))
		for i, t := range g.terms {
			if batch[0].minuteExpired {
				t.minute = 0
			}
			args = append(args, t.epoch, t.seq, batch[len(batch)-1].grant.terms[i].seq, t.spacing, t.minute, t.day, g.plan.rows[i].total)
		}
		for _, pair := range slices.Concat(b, d) {
			args = append(args, pair.key, pair.count)
		}
		if err := l.runOnce(ctx, g.plan.keys(), args); err != nil {
			return err
		}
		total, run.length = 0, 0
	}
	return nil
}

// split returns at most maxPairs pairs, and the others.
func split(all []groupCount) (first, rest []groupCount) {
	n := min(maxPairs, len(all))
	return all[:n], all[n:]
}

// countBy counts permits by key, in the order in which the keys first occur.
func countBy(batch []*Permit, key func(*Permit) int64) (all []groupCount) {
	for _, p := range batch {
		k := key(p)
		i := slices.IndexFunc(all, func(g groupCount) bool { return g.key == k })
		if i < 0 {
			i, all = len(all), append(all, groupCount{key: k})
		}
		all[i].count++
	}
	return all
}

// instantRun is a run of instants at equal distances.
type instantRun struct {
	length int
	step   int64 // µs
}

// latestRun returns the longest run that begins with the first permit of a batch. The batch is
// sorted from the latest instant to the earliest.
func latestRun(batch []*Permit) instantRun {
	r := instantRun{length: 1}
	for i := 1; i < len(batch); i++ {
		step := batch[i-1].instant - batch[i].instant
		if r.length > 1 && step != r.step {
			break
		}
		r.length, r.step = r.length+1, step
	}
	return r
}
