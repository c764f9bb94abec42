// Package describe writes counts, durations and holds as text for people: in messages, tables and
// findings. Text from outside, such as a hold's reason, is escaped for a terminal.
package describe

import (
	"fmt"
	"strings"
	"time"

	"github.com/wxcourier/wxcourier/internal/dispatch"
	"github.com/wxcourier/wxcourier/internal/hold"
	"github.com/wxcourier/wxcourier/internal/printable"
	"github.com/wxcourier/wxcourier/internal/summary"
)

// Count returns a number with its noun: "1 task", "2,000 tasks".
func Count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return summary.Number(n) + " " + noun + "s"
}

// Rounded rounds a duration to hundredths of a second, or to tenths from ten seconds on.
func Rounded(d time.Duration) time.Duration {
	if d < 10*time.Second {
		return d.Round(10 * time.Millisecond)
	}
	return d.Round(time.Second / 10)
}

// Coarse returns a duration in its two largest units: "3 h 20 min", "2 min 5 s", "1 d 2 h".
func Coarse(d time.Duration) string {
	s := int64((max(d, 0) + time.Second - 1) / time.Second)
	switch {
	case s < 60:
		return fmt.Sprintf("%d s", s)
	case s < 3600:
		return fmt.Sprintf("%d min %d s", s/60, s%60)
	case s < 24*3600:
		return fmt.Sprintf("%d h %d min", s/3600, s%3600/60)
	}
	return fmt.Sprintf("%d d %d h", s/(24*3600), s%(24*3600)/3600)
}

// Hold returns a hold in one line: what is held, why, and until when.
func Hold(h hold.Hold) string {
	text := fmt.Sprintf("%s %s: %s", h.App, Scope(h.Scope), Reason(h))
	if h.Code != 0 {
		text += fmt.Sprintf(" (errcode %d)", h.Code)
	}
	return text + ", " + Until(h)
}

// Scope returns what part of its app a hold with this scope covers.
func Scope(scope string) string {
	if scope == hold.WholeApp {
		return "all types"
	}
	return printable.Escape(scope)
}

// Reason returns the reason of a hold, with spaces in place of underscores.
func Reason(h hold.Hold) string {
	return printable.Escape(strings.ReplaceAll(h.Reason, "_", " "))
}

// Until returns when a hold ends, or when its next probe is, in local time.
func Until(h hold.Hold) string {
	switch {
	case h.Until.IsZero():
		return "until released"
	case dispatch.Probed(h):
		return "next probe " + h.Until.Local().Format(time.DateTime)
	}
	return "until " + h.Until.Local().Format(time.DateTime)
}
