package ratelimit

import (
	"math"
	"slices"
	"time"

	"github.com/wxcourier/wxcourier/internal/calendar"
)

// model implements take.lua and giveback.lua in Go, in memory, for one app. The tests compare
// the scripts with it.
type model struct {
	rows     map[string]*modelRow
	watchers map[string]*rowWatcher // by replica
}

type modelRow struct {
	epoch, seq, lost, folded int64
	slots
	log                             []modelBucket
	date, used, tomorrow, yesterday int64
	total                           int64
	lanes                           map[string]modelLane
	rowState                        // only the learned limits and the factor
}

// modelLane is the time and the demand of a lane's last request.
type modelLane struct{ requested, demand int64 }

type modelBucket struct{ bucket, count int64 }

// takeReply is the part of a grant that model and script must agree on.
type takeReply struct {
	now      int64
	instants []int64
	wait     time.Duration
	window   Window
}

var (
	dayMicros, skewMicros       = day.Microseconds(), midnightSkew.Microseconds()
	horizonMicros, bucketMicros = horizon.Microseconds(), bucket.Microseconds()
	secondMicros                = second.Microseconds()
)

func newModel() *model {
	return &model{rows: map[string]*modelRow{}, watchers: map[string]*rowWatcher{}}
}

func (m *model) row(name string) *modelRow {
	if m.rows[name] == nil {
		m.rows[name] = &modelRow{lanes: map[string]modelLane{}}
	}
	return m.rows[name]
}

func (s *modelRow) logged() (sum int64) {
	for _, b := range s.log {
		sum += b.count
	}
	return sum
}

// load drops what has passed at now. r has the limits in force.
func (s *modelRow) load(r pacedRow, now int64) {
	if r.spacing > 0 {
		s.slots.load(r.spacing.Microseconds(), now)
	}
	if r.minute > 0 && len(s.log) > 0 {
		if s.log[len(s.log)-1].bucket > (now+2*horizonMicros)/bucketMicros {
			s.log = []modelBucket{{(now + horizonMicros) / bucketMicros, s.logged()}}
			s.folded = s.seq
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

// loadEpoch withholds a window if the replica remembers data that the row has lost.
func (s *modelRow) loadEpoch(m rowVersion, jumped bool, now int64) {
	s.lost = min(s.lost, now)
	if s.epoch == 0 {
		s.epoch = now
	}
	switch {
	case m.epoch == 0:
	case m.epoch == s.epoch && (s.seq < m.seq || jumped):
		s.epoch, s.lost = max(now, s.epoch+1), now
	case m.epoch != s.epoch && s.lost < min(s.epoch, now):
		s.lost = min(s.epoch, now)
	}
}

// share returns how many permits the lane may get at once.
func (s *modelRow) share(r pacedRow, now int64, who string, n int64, demand int) int64 {
	if demand > 0 {
		s.lanes[who] = modelLane{now, int64(demand)}
	}
	demands := []int64{int64(demand)}
	for id, l := range s.lanes {
		switch {
		case l.requested < now-secondMicros || l.requested > now:
			delete(s.lanes, id)
		case id != who:
			demands = append(demands, l.demand)
		}
	}
	k := int64(len(demands))
	if r.spacing > 0 && demand > 0 {
		rate, contended := maxMinShare(1e6/float64(r.spacing.Microseconds()), demands)
		n = min(n, int64(math.Floor(float64(blockDuration.Microseconds())*rate/1e6)))
		if contended && k > 1 {
			s.step, s.saturated = 1e6/rate/float64(r.spacing.Microseconds()), float64(demand) <= rate
		}
	}
	if r.minute > 0 {
		n = min(n, (r.minute-s.logged())/4/k)
	}
	if r.day > 0 {
		n = min(n, (r.day-s.used)/4/k)
	}
	if r.total > 0 {
		n = min(n, maxTotalBlock, (r.total-s.total)/4/k)
	}
	return max(1, n)
}

// free returns when a bucket leaves the minute's log.
func free(b int64) int64 { return (b+1)*bucketMicros + bucketTTL.Microseconds() }

// sinceMidnight returns the time of day in China, µs.
func sinceMidnight(now int64) int64 { return (now + calendar.UTCOffset.Microseconds()) % dayMicros }

func (s *modelRow) nearMidnight(now int64) (late, early bool) {
	timeOfDay, today := sinceMidnight(now), dateOf(now)
	return s.date == today && timeOfDay >= dayMicros-skewMicros, s.date > today || timeOfDay < skewMicros
}

// waits returns how long each window of the row has no room at now, µs.
func (s *modelRow) waits(r pacedRow, now int64, single bool) [4]int64 {
	var w [4]int64
	if r.spacing > 0 {
		if _, _, free := s.pick(now, 0)(); !single || !free {
			w[0] = s.slots.next - horizonMicros - now
		}
		if s.lost > 0 {
			w[0] = max(w[0], s.lost+2*secondMicros-now)
		}
	}
	if r.minute > 0 {
		if s.logged() >= r.minute {
			w[1] = free(s.log[0].bucket) - now
		}
		if s.lost > 0 {
			w[1] = max(w[1], s.lost+bucketTTL.Microseconds()+horizonMicros-now)
		}
	}
	late, early := s.nearMidnight(now)
	if r.day > 0 && (s.used >= r.day || late && s.tomorrow >= r.day || early && s.yesterday >= r.day) {
		timeOfDay := sinceMidnight(now)
		w[2] = dayMicros - timeOfDay + skewMicros
		if s.used < r.day && s.date == dateOf(now) && timeOfDay < skewMicros {
			w[2] = skewMicros - timeOfDay
		}
	}
	if r.total > 0 && s.total >= r.total {
		w[3] = dayMicros
	}
	return w
}

// kept reports whether bulk tasks have used up their share of the day's limit.
func (s *modelRow) kept(r pacedRow, reserve float64, now int64) bool {
	if r.day == 0 {
		return false
	}
	most := int64(math.Floor(float64(r.day)*(1-reserve) + 1e-9))
	late, early := s.nearMidnight(now)
	return s.used > most || late && s.tomorrow > most || early && s.yesterday > most
}

func (s *modelRow) count(r pacedRow, now, at int64) {
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

// take does what Limiter.take does, with the model in place of the script. mono is the
// replica's monotonic clock.
func (m *model) take(now, mono int64, who string, p plan, q request) *grant {
	if m.watchers[who] == nil {
		m.watchers[who] = newRowWatcher()
	}
	g, jumped := m.takeOnce(now, mono, who, p, q)
	if jumped {
		m.giveBack(now, (&Limiter{}).permits(g))
		g, _ = m.takeOnce(now, mono, who, p, q)
	}
	return g
}

func (m *model) takeOnce(now, mono int64, who string, p plan, q request) (g *grant, jumped bool) {
	versions, jumps := m.watchers[who].versions(p.rows)
	g = m.script(now, who, p, q, versions, jumps)
	jumped, g.clockOffset = m.watchers[who].observe(jumps, mono, mono+1, g)
	return g, jumped
}

func (m *model) script(now int64, who string, p plan, q request, versions []rowVersion, jumps int64) *grant {
	g, rows := &grant{plan: p, now: now}, slices.Clone(p.rows)
	block, paced := int64(q.n), []int{}
	for i := range rows {
		s := m.row(rows[i].name)
		var micros int64
		micros, rows[i].minute, rows[i].day = s.inForce(rows[i], now)
		rows[i].spacing = time.Duration(micros) * time.Microsecond
		s.loadEpoch(versions[i], versions[i].jumps != jumps, now)
		s.load(rows[i], now)
		block = min(block, s.share(rows[i], now, who, block, q.demand))
		if micros > 0 {
			paced = append(paced, i)
		}
	}
	var single *slots // of the only row with instants; nil if there are several
	var pick func() (slot, i int64, ok bool)
	if len(paced) == 1 {
		single = &m.row(rows[paced[0]].name).slots
		pick = single.start(now, q.lastInstant)
	}
	for int64(len(g.instants)) < block {
		var wait int64
		at := now
		for i, r := range rows {
			for kind, w := range m.row(r.name).waits(r, now, single != nil) {
				if w > wait {
					wait, g.window = w, p.rows[i].window(int64(kind+1))
				}
			}
			if r.spacing > 0 {
				at = max(at, m.row(r.name).slots.next)
			}
		}
		if wait > 0 {
			g.wait = time.Duration(wait) * time.Microsecond
			break
		}
		if single != nil {
			slot, i, ok := pick()
			if !ok {
				break
			}
			at = single.take(slot, i)
		}
		kept := false
		for _, r := range rows {
			s := m.row(r.name)
			if single == nil && r.spacing > 0 {
				s.slots.next = at + r.spacing.Microseconds()
			}
			s.count(r, now, at)
			kept = kept || s.kept(r, p.reserve, now)
		}
		g.instants = append(g.instants, at)
		if !kept {
			g.bulk = len(g.instants)
		}
	}
	if len(g.instants) > 0 {
		g.wait, g.window = 0, Window{}
		if single != nil {
			g.spread = int64(math.Floor(single.step * float64(single.gap)))
		}
	}
	for _, r := range rows {
		s := m.row(r.name)
		if len(g.instants) > 0 {
			s.seq++
		}
		if single != nil && r.spacing > 0 {
			single.save(now)
		} else {
			s.taken = nil
		}
		g.terms = append(g.terms, terms{s.epoch, s.seq, r.spacing.Microseconds(), r.minute, r.day})
	}
	return g
}

// giveBack gives back permits of one grant.
func (m *model) giveBack(now int64, permits []*Permit) {
	slices.SortFunc(permits, func(a, b *Permit) int { return int(b.instant - a.instant) })
	for _, p := range permits {
		for i, r := range p.grant.plan.rows {
			if s := m.row(r.name); s.epoch == p.grant.terms[i].epoch {
				s.giveBack(now, p, p.grant.terms[i], r.total)
			}
		}
	}
}

func (s *modelRow) giveBack(now int64, p *Permit, t terms, total int64) {
	if s.seq == t.seq && t.spacing > 0 && s.slots.next == p.instant+t.spacing {
		s.slots.next = p.instant
	}
	if own := p.instant / bucketMicros; t.minute > 0 && !p.minuteExpired && t.seq > s.folded && free(own) > now {
		i := slices.IndexFunc(s.log, func(b modelBucket) bool { return b.bucket >= own })
		if i >= 0 {
			decrement(&s.log[i].count)
		}
	}
	if t.day > 0 {
		s.giveBackDay(p.grant.now)
	}
	if total > 0 {
		decrement(&s.total)
	}
}

func (s *modelRow) giveBackDay(granted int64) {
	date, timeOfDay := dateOf(granted), sinceMidnight(granted)
	switch s.date {
	case date:
		decrement(&s.used)
		if timeOfDay >= dayMicros-skewMicros {
			decrement(&s.tomorrow)
		}
		if timeOfDay < skewMicros {
			decrement(&s.yesterday)
		}
	case date + 1:
		decrement(&s.yesterday)
		if timeOfDay >= dayMicros-skewMicros {
			decrement(&s.used)
		}
	}
}

func decrement(n *int64) {
	if *n > 0 {
		*n--
	}
}

// loseData drops everything that Redis stores.
func (m *model) loseData() { m.rows = map[string]*modelRow{} }

// crash drops what a replica remembers.
func (m *model) crash(who string) { delete(m.watchers, who) }

func (m *model) feedback(now int64, row string) {
	s := m.row(row)
	f := s.factorAt(now)
	if s.slowed > 0 && s.slowed <= now && now-s.slowed < secondMicros {
		return
	}
	s.factor, s.slowed = max(100, f*7/10), now
}
