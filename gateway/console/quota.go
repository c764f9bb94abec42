package console

import "time"

// forecast is what becomes of a limit at the pace of now.
type forecast struct {
	Spent bool      // nothing is left
	At    time.Time // when it is used up; zero: not before it starts again
	Over  int64     // tasks that wait now, and are more than what is left
}

// foresee returns what becomes of a limit: left calls are left until it ends (zero: never), waiting
// tasks need them, and pace calls are made in a second.
func foresee(now time.Time, left, waiting int64, pace float64, ends time.Time) forecast {
	f := forecast{Over: max(0, waiting-max(0, left))}
	if left <= 0 {
		f.Spent = true
		return f
	}
	if pace <= 0 {
		return f
	}
	seconds := float64(left) / pace
	if ends.IsZero() && seconds > (365*24*time.Hour).Seconds() {
		return f
	}
	if !ends.IsZero() && seconds >= ends.Sub(now).Seconds() {
		return f
	}
	f.At = now.Add(time.Duration(seconds * float64(time.Second)))
	return f
}

// paceSpan is the time whose calls are the pace of now.
const paceSpan = 5 * time.Minute

// paceOf returns how many tasks a second ended in the whole minutes within paceSpan before now. counts
// are by minute, from a time on.
func paceOf(now, from time.Time, counts []int64) float64 {
	to := int(now.Sub(from) / time.Minute) // of the minute that is not over
	sum, minutes := int64(0), 0
	for i := max(0, to-int(paceSpan/time.Minute)); i < to && i < len(counts); i++ {
		sum, minutes = sum+counts[i], minutes+1
	}
	if minutes == 0 {
		return 0
	}
	return float64(sum) / (float64(minutes) * 60)
}
