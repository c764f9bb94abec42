package campaign

import (
	"math"
	"time"

	"github.com/wxcourier/wxcourier/internal/calendar"
)

// Load is what determines when the messages of a campaign are sent.
type Load struct {
	Now   time.Time
	Rows  int64     // that are still to be sent
	At    time.Time // the earliest time; zero: at once
	Rate  float64   // messages a second of the campaign; 0: no limit of its own
	Ahead int64     // tasks of other senders that are sent before

	PerSecond float64 // the limit of a second, after the margin; 0: none
	PerMinute float64 // likewise, of a minute
	PerDay    int64   // the limit of a day, without what is reserved; 0: none
	UsedToday int64   // of PerDay
	Total     int64   // what is left of a limit for the app's lifetime
	HasTotal  bool
	Parallel  int // calls that all replicas make at the same time, at least 1

	Hours     func(now time.Time) (opensAt time.Time, open bool) // nil: always open
	HeldUntil time.Time                                          // a hold stops the app or the type until then
	Held      bool                                               // a hold stops it until somebody releases it
}

// callTime is the assumed duration of a call to WeChat.
const callTime = 150 * time.Millisecond

// Bound says what limits a campaign most.
type Bound string

// The bounds.
const (
	ByRate     Bound = "rate"       // the campaign's own rate
	BySecond   Bound = "per_second" // a limit
	ByMinute   Bound = "per_minute"
	ByDay      Bound = "per_day"
	ByTotal    Bound = "total" // the rest can never be sent
	ByHold     Bound = "hold"  // a hold that does not end by itself
	ByHours    Bound = "hours" // the app's hours
	ByReplicas Bound = "replicas"
)

// Day is the number of a campaign's messages on one day of China.
type Day struct {
	Date string `json:"date"`
	Rows int64  `json:"rows"`
}

// Estimation is when a campaign is sent if nothing else is. It does not know how long WeChat's
// answers take, what other producers enqueue meanwhile, and which limits WeChat will report.
type Estimation struct {
	Begin  time.Time `json:"begin,omitzero"` // the first message is sent
	End    time.Time `json:"end,omitzero"`   // the last one; zero: unknown or never
	Rate   float64   `json:"rate"`           // messages a second, while they are sent
	Bound  Bound     `json:"bound"`
	Unsent int64     `json:"unsent,omitempty"` // rows that are not sent within a year, or never
	Days   []Day     `json:"days,omitempty"`   // the first ones
}

const (
	horizon = 366 * 24 * time.Hour // of an estimation
	maxDays = 31                   // that are listed
)

// Estimate computes when the rows are sent.
func Estimate(l Load) Estimation {
	c := newClock(l)
	if l.Held {
		return Estimation{Bound: ByHold, Unsent: l.Rows, Rate: c.speed}
	}
	c.skipTo(l.HeldUntil)
	ahead := l.Ahead
	if l.HasTotal {
		ahead = min(ahead, l.Total)
	}
	c.send(ahead, c.speed, nil)
	c.skipTo(l.At)
	e := Estimation{Rate: c.speed, Bound: c.bound}
	if l.Rate > 0 && l.Rate < c.speed {
		e.Rate, e.Bound = l.Rate, ByRate
	}
	rows := l.Rows
	if l.HasTotal {
		rows = min(rows, l.Total-ahead)
	}
	c.waits = 0
	left := c.send(rows, e.Rate, &e)
	switch {
	case rows < l.Rows:
		e.Bound = ByTotal
	case c.waits > 0:
		e.Bound = c.longest
	}
	if e.Unsent = left + l.Rows - rows; e.Unsent == 0 {
		e.End = c.now
	}
	return e
}

// clock moves through the time in which tasks are sent.
type clock struct {
	load  Load
	now   time.Time
	used  int64   // of the day's limit, on the day of now
	speed float64 // tasks a second that the limits allow
	bound Bound   // what determines speed
	open  [24 * 60]bool

	waits   time.Duration // of the longest wait for a day's limit or for the hours
	longest Bound
}

func newClock(l Load) *clock {
	c := &clock{load: l, now: l.Now, used: l.UsedToday}
	c.speed, c.bound = float64(max(l.Parallel, 1))/callTime.Seconds(), ByReplicas
	for _, limit := range []struct {
		speed float64
		bound Bound
	}{{l.PerSecond, BySecond}, {l.PerMinute / 60, ByMinute}} {
		if limit.speed > 0 && limit.speed < c.speed {
			c.speed, c.bound = limit.speed, limit.bound
		}
	}
	midnight := startOfDay(l.Now)
	for minute := range c.open {
		c.open[minute] = true
		if l.Hours != nil {
			_, c.open[minute] = l.Hours(midnight.Add(time.Duration(minute) * time.Minute))
		}
	}
	return c
}

func startOfDay(t time.Time) time.Time {
	t = t.In(calendar.Shanghai())
	return time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, t.Location())
}

func nextDay(t time.Time) time.Time { return startOfDay(t).AddDate(0, 0, 1) }

// skipTo moves to a later time.
func (c *clock) skipTo(t time.Time) {
	if !t.After(c.now) {
		return
	}
	if !t.Before(nextDay(c.now)) {
		c.used = 0
	}
	c.now = t
}

// span returns when the current span of open or closed hours ends: at midnight at the latest.
func (c *clock) span() (end time.Time, open bool) {
	midnight := startOfDay(c.now)
	minute := int(c.now.Sub(midnight) / time.Minute)
	open = c.open[minute]
	for minute < len(c.open) && c.open[minute] == open {
		minute++
	}
	return midnight.Add(time.Duration(minute) * time.Minute), open
}

// send moves to the time when n tasks are sent, with at most speed a second. It counts them in e,
// if e is not nil, and returns how many are left after a year.
func (c *clock) send(n int64, speed float64, e *Estimation) int64 {
	last := c.load.Now.Add(horizon)
	if c.load.At.After(c.load.Now) {
		last = c.load.At.Add(horizon)
	}
	for n > 0 && c.now.Before(last) {
		end, open := c.span()
		if !open {
			c.wait(end, ByHours)
			continue
		}
		left := n
		if c.load.PerDay > 0 {
			left = min(left, c.load.PerDay-c.used)
		}
		if left <= 0 {
			c.wait(nextDay(c.now), ByDay)
			continue
		}
		inSpan := int64(math.Ceil(end.Sub(c.now).Seconds() * speed))
		sent := min(left, max(inSpan, 1))
		if e != nil {
			e.count(c.now, sent)
		}
		c.used, n = c.used+sent, n-sent
		took := time.Duration(float64(sent) / speed * float64(time.Second))
		if at := c.now.Add(took); sent < inSpan && at.Before(end) {
			c.now = at
		} else {
			c.skipTo(end)
		}
	}
	return n
}

// wait moves to a later time because of a bound.
func (c *clock) wait(until time.Time, because Bound) {
	if d := until.Sub(c.now); d >= c.waits {
		c.waits, c.longest = d, because
	}
	c.skipTo(until)
}

// count adds messages that are sent from a time on.
func (e *Estimation) count(at time.Time, n int64) {
	if e.Begin.IsZero() {
		e.Begin = at
	}
	date := at.In(calendar.Shanghai()).Format(time.DateOnly)
	if last := len(e.Days) - 1; last >= 0 && e.Days[last].Date == date {
		e.Days[last].Rows += n
		return
	}
	if len(e.Days) < maxDays {
		e.Days = append(e.Days, Day{Date: date, Rows: n})
	}
}
