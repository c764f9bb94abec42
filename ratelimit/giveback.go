package ratelimit

import (
	"cmp"
	"context"
	"fmt"
	"slices"
)

// maxPairs bounds what one command gives back, and with it the time that the script takes.
// A lane's stock has a handful of pairs: its instants lie within half a second, and it was
// granted in a few blocks.
const maxPairs = 64

// groupCount is how many permits have one number in common, such as their bucket.
type groupCount struct{ key, count int64 }

// giveBack undoes takes. Permits that were taken on the same terms go in one command. A
// lane that rests is no longer counted among those that draw on the rows.
func (l *Limiter) giveBack(ctx context.Context, permits []*Permit, rests bool) error {
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
		if err := l.giveBackBatch(ctx, batch, rests); err != nil {
			return fmt.Errorf("give back permits for %s of %s: %w", first.grant.plan.typ, first.grant.plan.app, err)
		}
		permits = rest
	}
	return nil
}

// giveBackBatch sends sums: how many permits there are of each bucket and of each day, and
// the run of the latest instants. More pairs than one command may have go in further ones,
// which count no permits twice.
func (l *Limiter) giveBackBatch(ctx context.Context, batch []*Permit, rests bool) error {
	g, id := batch[0].grant, ""
	if rests {
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

func split(all []groupCount) (first, rest []groupCount) {
	n := min(maxPairs, len(all))
	return all[:n], all[n:]
}

// countBy counts permits by what of tells, in the order of the first of each.
func countBy(batch []*Permit, of func(*Permit) int64) (all []groupCount) {
	for _, p := range batch {
		v := of(p)
		i := slices.IndexFunc(all, func(t groupCount) bool { return t.key == v })
		if i < 0 {
			i, all = len(all), append(all, groupCount{key: v})
		}
		all[i].count++
	}
	return all
}

// instantRun is some instants at equal distances, of which a batch has the latest.
type instantRun struct {
	length int
	step   int64 // µs
}

// latestRun is the longest run at the beginning of a batch, which is ordered from the
// latest instant on.
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
