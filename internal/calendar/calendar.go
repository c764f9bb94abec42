// Package calendar is the calendar by which WeChat counts: the days and minutes of China.
//
//	calendar.EndOfDay(time.Now()) // when to retry after a refusal for the day's quota
package calendar

import "time"

// UTCOffset is the offset of Asia/Shanghai from UTC.
const UTCOffset = 8 * time.Hour

// MidnightSkew is how far WeChat's clock may be from ours (Redis') at midnight, or at the end
// of a minute.
const MidnightSkew = 2 * time.Second

// Shanghai returns the time zone of WeChat's days. China has kept UTC+8 without daylight
// saving since 1992, so a fixed zone suffices and needs no zone database.
func Shanghai() *time.Location {
	return time.FixedZone("Asia/Shanghai", int(UTCOffset/time.Second))
}

// EndOfDay returns when to retry after a refusal for the day's quota at now: MidnightSkew after
// the midnight (Asia/Shanghai) that ends now's day, since WeChat's clock may be behind ours.
// Within the first minute of a day the refusal may still concern the previous day, and waiting
// for midnight would cost a whole day: EndOfDay then returns [NextMinute].
func EndOfDay(now time.Time) time.Time {
	t := now.In(Shanghai())
	if t.Hour() == 0 && t.Minute() == 0 {
		return NextMinute(now)
	}
	return time.Date(t.Year(), t.Month(), t.Day()+1, 0, 0, 0, 0, Shanghai()).Add(MidnightSkew)
}

// NextMinute returns when to retry after a refusal for the minute's quota at now: MidnightSkew
// into the next minute by the clock. WeChat counts wall-clock minutes, and its clock may be
// behind ours.
func NextMinute(now time.Time) time.Time {
	return now.In(Shanghai()).Truncate(time.Minute).Add(time.Minute + MidnightSkew)
}
