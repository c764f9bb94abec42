package ratelimit

import (
	"testing"
	"time"
)

// TestDemand checks the next request of a lane after some use of its blocks.
func TestDemand(t *testing.T) {
	const ms = time.Millisecond
	type block struct {
		granted, used, stale int
		span, waited         time.Duration // since the block was granted; how long of it a caller waited
		spread               bool
	}
	for _, tt := range []struct {
		name      string
		blocks    []block
		gap, late time.Duration
		want      request
	}{
		{"the first request", nil, 0, 0, request{n: firstBlock, demand: 11}},
		{"little was used", []block{{granted: 4, used: 1, span: time.Second}}, 0, unpacedLateness, request{n: 1, demand: 2}},
		{"a block that was used up: twice as many", []block{{granted: 8, used: 8, span: 10 * ms}}, 0, unpacedLateness, request{n: 16, demand: 91}},
		{"no more when permits went stale", []block{{granted: 8, used: 8, stale: 1, span: 10 * ms}}, 0, unpacedLateness, request{n: 8, demand: 45}},
		{"no more than for the duration of a block", []block{{granted: 400, used: 350, span: 350 * ms}}, 0, unpacedLateness, request{n: 350, demand: 1000}},
		{"no more than can be used before it goes stale", []block{{granted: 400, used: 350, span: 350 * ms}}, 0, minuteLateness, request{n: 100, demand: 700}},
		{"no more of a dense run", []block{{granted: 9, used: 9, span: 18 * ms}}, ms, 10 * ms, request{n: 10, demand: 57}},
		{"all of a run that is no denser than the use", []block{{granted: 200, used: 200, span: 100 * ms}}, ms, 10 * ms, request{n: 400, demand: 2000}},
		{"waiting does not count as use", []block{{granted: 20, used: 10, span: 200 * ms, waited: 100 * ms, spread: true}}, ms, 10 * ms, request{n: 35, demand: 100}},
		{"a lane that waited all the time demands everything", []block{{granted: 20, used: 10, span: 200 * ms, waited: 200 * ms, spread: true}}, ms, 10 * ms, request{n: 40, demand: 228}},
		{"a lane that lets spread-out permits go stale is saturated", []block{{granted: 20, used: 10, stale: 5, span: 200 * ms, waited: 150 * ms, spread: true}}, ms, 10 * ms, request{n: 18, demand: 53}},
		{
			"after saturation the demand grows slowly", []block{
				{granted: 20, used: 10, stale: 5, span: 1100 * ms, spread: true},
				{granted: 100, used: 100, span: 1100 * ms, waited: 1100 * ms, spread: true},
			}, ms, 10 * ms, request{n: 41, demand: 119},
		},
		{"no block is larger than maxBlock", []block{{granted: 512, used: 512, span: ms}}, 0, unpacedLateness, request{n: maxBlock, demand: 2925}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d, now, spread := demandEstimator{}, time.Now(), false
			got := d.nextRequest(now, tt.gap, tt.late, spread)
			for _, b := range tt.blocks {
				d.beginBlock(b.granted, now)
				d.addWait(now, now.Add(b.waited))
				now, spread = now.Add(b.span), b.spread
				for range b.used {
					d.countUsed(now, now)
				}
				d.countStale(b.stale, now, b.spread)
				got = d.nextRequest(now, tt.gap, tt.late, spread)
			}
			if got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestRecentCountsExpire(t *testing.T) {
	var d demandEstimator
	now := time.Now()
	for range 30 {
		d.countUsed(now, now)
	}
	if n := d.recentCounts(now.Add(recent / 2)).used; n != 30 {
		t.Errorf("%d recent uses after half of the time, want 30", n)
	}
	if n := d.recentCounts(now.Add(recent + recent/recentIntervals)).used; n != 0 {
		t.Errorf("%d recent uses after all of the time, want 0", n)
	}
	d.countUsed(now.Add(time.Hour), now)
	d.countReturned(now.Add(time.Hour))
	if n := d.recentCounts(now.Add(time.Hour)).used; n != 0 {
		t.Errorf("%d recent uses after the permit was returned, want 0", n)
	}
}

func TestRefillLead(t *testing.T) {
	for span, want := range map[time.Duration]time.Duration{
		0: 0, 35 * time.Millisecond: maxRefillLead / 10, blockDuration: maxRefillLead, time.Hour: maxRefillLead,
	} {
		if got := refillLead(span); (got - want).Abs() > time.Microsecond {
			t.Errorf("%v: %v", span, got)
		}
	}
}
