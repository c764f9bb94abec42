package ratelimit

import "time"

// Shanghai is the zone of WeChat's days. China has kept UTC+8 without daylight saving
// since 1992; a fixed zone needs no zone database. A function, since a package variable
// could be changed.
func Shanghai() *time.Location { return time.FixedZone("Asia/Shanghai", utcOffset) }

// utcOffset is that zone's distance from UTC, in seconds.
const utcOffset = 8 * 60 * 60

// EndOfDay is when a refusal for the day's quota, met at now, is to be tried again: two
// seconds after the midnight (Asia/Shanghai) that ends now's day, since WeChat's clock
// may be behind ours. Within the first minute of a day the refusal may still be about
// the day before, and waiting for its end would cost a whole day: then it is [NextMinute].
func EndOfDay(now time.Time) time.Time {
	t := now.In(Shanghai())
	if t.Hour() == 0 && t.Minute() == 0 {
		return NextMinute(now)
	}
	return time.Date(t.Year(), t.Month(), t.Day()+1, 0, 0, 0, 0, Shanghai()).Add(midnightSkew)
}

// NextMinute is when a refusal for the minute's quota, met at now, is to be tried again:
// two seconds into the next minute by the clock. WeChat counts wall-clock minutes, and
// its clock may be behind ours.
func NextMinute(now time.Time) time.Time {
	return now.In(Shanghai()).Truncate(time.Minute).Add(time.Minute + midnightSkew)
}
