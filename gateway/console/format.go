package console

import (
	"cmp"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/wxcourier/wxcourier/internal/calendar"
)

// none is shown in place of a value that is not there.
const none = "–"

// number returns a number with thousands separators. Fractions have one digit while they are small.
func number(v any) (string, error) {
	var n int64
	switch v := v.(type) {
	case int:
		n = int64(v)
	case int64:
		n = v
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return none, nil
		}
		if v > 0 && v < 0.05 {
			return "<0.1", nil
		}
		if abs := math.Abs(v); abs < 10 && abs != math.Trunc(abs) {
			return strconv.FormatFloat(v, 'f', 1, 64), nil
		}
		n = int64(math.Round(v))
	default:
		return "", fmt.Errorf("console: number: %T is not a number", v)
	}
	digits := strconv.FormatInt(n, 10)
	sign := ""
	if n < 0 {
		sign, digits = "−", digits[1:]
	}
	var groups []string
	for ; len(digits) > 3; digits = digits[:len(digits)-3] {
		groups = append([]string{digits[len(digits)-3:]}, groups...)
	}
	return sign + strings.Join(append([]string{digits}, groups...), ","), nil
}

// percent returns a share: 0.254 is 25 %. What is not nothing is not shown as 0 %, and what is not
// all is not shown as 100 %.
func percent(share float64) string {
	switch p := math.Round(share * 100); {
	case math.IsNaN(share) || math.IsInf(share, 0):
		return none
	case p == 0 && share > 0:
		return "<1%"
	case p == 100 && share < 1:
		return ">99%"
	default:
		return strconv.FormatFloat(p, 'f', 0, 64) + "%"
	}
}

// unit is a unit of time, with its names.
type unit struct {
	span  time.Duration
	short map[language]string // in durations
	ago   map[language]string // nil: too short to be told
}

func units() []unit {
	return []unit{
		{24 * time.Hour, map[language]string{english: "%d d", chinese: "%d 天"}, map[language]string{english: "%d d ago", chinese: "%d 天前"}},
		{time.Hour, map[language]string{english: "%d h", chinese: "%d 小时"}, map[language]string{english: "%d h ago", chinese: "%d 小时前"}},
		{time.Minute, map[language]string{english: "%d min", chinese: "%d 分"}, map[language]string{english: "%d min ago", chinese: "%d 分钟前"}},
		{time.Second, map[language]string{english: "%d s", chinese: "%d 秒"}, nil},
	}
}

// duration returns a duration in its two largest units, such as "4 min 10 s".
func duration(lang language, d time.Duration) string {
	if d < time.Second && d > 0 {
		return fmt.Sprintf(map[language]string{english: "%d ms", chinese: "%d 毫秒"}[lang], max(1, d.Milliseconds()))
	}
	d = max(0, d.Round(time.Second))
	all := units()
	for i, u := range all {
		n := d / u.span
		if n == 0 && u.span > time.Second {
			continue
		}
		text := fmt.Sprintf(u.short[lang], n)
		if rest := d % u.span; i+1 < len(all) && rest/all[i+1].span > 0 {
			text += " " + fmt.Sprintf(all[i+1].short[lang], rest/all[i+1].span)
		}
		return text
	}
	return ""
}

// durationOf is duration for templates: v is a time.Duration, or seconds.
func durationOf(lang language, v any) (string, error) {
	switch v := v.(type) {
	case time.Duration:
		return duration(lang, v), nil
	case float64:
		if math.IsNaN(v) || v < 0 || v > math.MaxInt64/float64(time.Second) {
			return none, nil
		}
		return duration(lang, time.Duration(v*float64(time.Second))), nil
	case int64:
		return duration(lang, time.Duration(v)*time.Second), nil
	}
	return "", fmt.Errorf("console: duration: %T is not a duration", v)
}

// ago returns how long ago a time was, in one unit. It changes once a minute, so that a page that shows
// it is not sent again every second.
func ago(lang language, now, t time.Time) string {
	if t.IsZero() {
		return none
	}
	d := now.Sub(t)
	for _, u := range units() {
		if n := d / u.span; n > 0 && u.ago != nil {
			return fmt.Sprintf(u.ago[lang], n)
		}
	}
	return map[language]string{english: "just now", chinese: "刚刚"}[lang]
}

// clock returns the time of the day in China, with the date unless that is today.
func clock(now, t time.Time) string {
	if t.IsZero() {
		return none
	}
	now, t = now.In(calendar.Shanghai()), t.In(calendar.Shanghai())
	switch {
	case now.Format(time.DateOnly) == t.Format(time.DateOnly):
		return t.Format("15:04")
	case now.Year() == t.Year():
		return t.Format("01-02 15:04")
	}
	return t.Format("2006-01-02 15:04")
}

func dateTime(t time.Time) string { return t.In(calendar.Shanghai()).Format(time.DateTime) }

// orNone returns a text, or the sign for none.
func orNone(text string) string { return cmp.Or(text, none) }
