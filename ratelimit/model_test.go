package ratelimit

import (
	"slices"
	"time"
)

// model is the scripts' arithmetic in Go, in memory, for one app: what take.lua and
// giveback.lua are compared with.
type model struct{ rows map[string]*modelRow }

type modelRow struct {
	next                            int64
	log                             []modelBucket
	date, used, tomorrow, yesterday int64
	total                           int64
}

type modelBucket struct{ bucket, count int64 }

// answer is what both model and script say to a take.
type answer struct {
	now      int64
	instants []int64
	wait     time.Duration
	window   Window
}

var (
	dayMicros, edgeMicros     = day.Microseconds(), edge.Microseconds()
	aheadMicros, bucketMicros = ahead.Microseconds(), bucket.Microseconds()
)

func newModel() *model { return &model{rows: map[string]*modelRow{}} }

func (m *model) row(name string) *modelRow {
	if m.rows[name] == nil {
		m.rows[name] = &modelRow{}
	}
	return m.rows[name]
}

func (s *modelRow) logged() (sum int64) {
	for _, b := range s.log {
		sum += b.count
	}
	return sum
}

// load lets pass what has passed at now.
func (s *modelRow) load(r pacedRow, now int64) {
	if r.spacing > 0 {
		s.next = min(s.next, now+aheadMicros+r.spacing.Microseconds())
	}
	if r.minute > 0 && len(s.log) > 0 {
		if s.log[len(s.log)-1].bucket > (now+2*aheadMicros)/bucketMicros {
			s.log = []modelBucket{{(now + aheadMicros) / bucketMicros, s.logged()}}
		}
		for len(s.log) > 0 && (free(s.log[0].bucket) <= now || s.log[0].count == 0) {
			s.log = s.log[1:]
		}
	}
	if r.day > 0 {
		today := dateOf(now)
		switch {
		case s.date == today-1:
			s.date, s.yesterday, s.used, s.tomorrow = today, s.used, s.tomorrow, 0
		case s.date < today:
			s.date, s.yesterday, s.used, s.tomorrow = today, 0, 0, 0
		case s.date > today+1:
			s.date, s.used, s.yesterday, s.tomorrow = today, max(s.used, s.yesterday), 0, 0
		}
	}
}

// free is when a bucket leaves the minute's log.
func free(b int64) int64 { return (b+1)*bucketMicros + keep.Microseconds() }

// sinceMidnight is the time of day in China.
func sinceMidnight(now int64) int64 { return (now + utcOffset*1_000_000) % dayMicros }

func (s *modelRow) nearMidnight(now int64) (late, early bool) {
	into, today := sinceMidnight(now), dateOf(now)
	return s.date == today && into >= dayMicros-edgeMicros, s.date > today || into < edgeMicros
}

// waits tells how long each window of the row has no room at now.
func (s *modelRow) waits(r pacedRow, now int64) [4]int64 {
	var w [4]int64
	if r.spacing > 0 {
		w[0] = s.next - aheadMicros - now
	}
	if r.minute > 0 && s.logged() >= r.minute {
		w[1] = free(s.log[0].bucket) - now
	}
	late, early := s.nearMidnight(now)
	if r.day > 0 && (s.used >= r.day || late && s.tomorrow >= r.day || early && s.yesterday >= r.day) {
		into := sinceMidnight(now)
		w[2] = dayMicros - into + edgeMicros
		if s.used < r.day && s.date == dateOf(now) && into < edgeMicros {
			w[2] = edgeMicros - into
		}
	}
	if r.total > 0 && s.total >= r.total {
		w[3] = dayMicros
	}
	return w
}

func (s *modelRow) count(r pacedRow, now, at int64) {
	if r.spacing > 0 {
		s.next = at + r.spacing.Microseconds()
	}
	if r.minute > 0 {
		b := at / bucketMicros
		if n := len(s.log); n > 0 && s.log[n-1].bucket >= b {
			s.log[n-1].count++
		} else {
			s.log = append(s.log, modelBucket{b, 1})
		}
	}
	if r.day > 0 {
		late, early := s.nearMidnight(now)
		s.used++
		if late {
			s.tomorrow++
		}
		if early {
			s.yesterday++
		}
	}
	if r.total > 0 {
		s.total++
	}
}

func (m *model) take(now int64, p plan, n int) answer {
	for _, r := range p.rows {
		m.row(r.name).load(r, now)
	}
	a := answer{now: now}
	for len(a.instants) < n {
		var wait int64
		at := now
		for _, r := range p.rows {
			for kind, w := range m.row(r.name).waits(r, now) {
				if w > wait {
					wait, a.window = w, r.window(int64(kind+1))
				}
			}
			if r.spacing > 0 {
				at = max(at, m.row(r.name).next)
			}
		}
		if wait > 0 {
			a.wait = time.Duration(wait) * time.Microsecond
			break
		}
		for _, r := range p.rows {
			m.row(r.name).count(r, now, at)
		}
		a.instants = append(a.instants, at)
	}
	if len(a.instants) > 0 {
		a.wait, a.window = 0, Window{}
	}
	return a
}

func (m *model) giveBack(now int64, p *Permit) {
	for _, r := range p.plan.rows {
		s := m.row(r.name)
		if r.spacing > 0 && s.next == p.instant+r.spacing.Microseconds() {
			s.next = p.instant
		}
		if own := p.instant / bucketMicros; r.minute > 0 && free(own) > now {
			i := slices.IndexFunc(s.log, func(b modelBucket) bool { return b.bucket >= own })
			if i >= 0 {
				lessen(&s.log[i].count)
			}
		}
		if r.day > 0 {
			s.giveBackDay(p.granted)
		}
		if r.total > 0 {
			lessen(&s.total)
		}
	}
}

func (s *modelRow) giveBackDay(granted int64) {
	date, into := dateOf(granted), sinceMidnight(granted)
	switch s.date {
	case date:
		lessen(&s.used)
		if into >= dayMicros-edgeMicros {
			lessen(&s.tomorrow)
		}
		if into < edgeMicros {
			lessen(&s.yesterday)
		}
	case date + 1:
		lessen(&s.yesterday)
		if into >= dayMicros-edgeMicros {
			lessen(&s.used)
		}
	}
}

func lessen(n *int64) {
	if *n > 0 {
		*n--
	}
}
